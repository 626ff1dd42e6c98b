/** Checks that what a page loads before it shows anything stays small: `npm run size`, after a build. */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const LIMIT_KIB = 120;
const root = fileURLToPath(new URL('..', import.meta.url));
const manifest = JSON.parse(await readFile(`${root}.svelte-kit/output/client/.vite/manifest.json`, 'utf8'));

/** A chunk and everything it imports at once. */
function closure(key, seen = new Set()) {
	if (seen.has(key)) return seen;
	seen.add(key);
	for (const imported of manifest[key]?.imports ?? []) closure(imported, seen);
	return seen;
}

async function gzippedKib(keys) {
	const files = new Set([...keys].map((key) => manifest[key].file).filter((file) => file.endsWith('.js')));
	let bytes = 0;
	for (const file of files) bytes += gzipSync(await readFile(`${root}build/${file}`), { level: 9 }).length;
	return bytes / 1024;
}

const keys = Object.keys(manifest);
// Every page needs the start, the application and the layout (node 0); nodes from 2 on are the pages.
const entries = keys.filter((key) => /client\/entry\.js$|client-optimized\/app\.js$|nodes\/0\.js$/.test(key));
const pages = keys.filter((key) => /nodes\/[2-9]\d*\.js$/.test(key));
if (entries.length !== 3 || pages.length === 0) throw new Error(`cannot make out the entry points among ${keys.join(', ')}`);

let tooLarge = false;
for (const page of pages) {
	const all = new Set();
	for (const key of [...entries, page]) closure(key, all);
	const kib = await gzippedKib(all);
	const name = manifest[page].name ?? page;
	process.stdout.write(`${kib.toFixed(1).padStart(6)} KiB gzipped of ${LIMIT_KIB}  ${name}\n`);
	if (kib > LIMIT_KIB) tooLarge = true;
}
if (tooLarge) process.exit(1);
