/** Checks that the scripts a page needs before it shows anything stay small: `npm run size`, after a build. */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const LIMIT_KIB = 120;
const build = fileURLToPath(new URL('../build', import.meta.url));
const page = await readFile(`${build}/index.html`, 'utf8');
const files = new Set([...page.matchAll(/["'](\/[^"']+\.js)["']/g)].map((match) => match[1]));
if (![...files].some((file) => file.startsWith('/_app/'))) throw new Error('index.html names no script of the application');

let total = 0;
for (const file of files) {
	const kib = gzipSync(await readFile(build + file), { level: 9 }).length / 1024;
	process.stdout.write(`${kib.toFixed(1).padStart(6)} KiB  ${file}\n`);
	total += kib;
}
process.stdout.write(`${total.toFixed(1).padStart(6)} KiB gzipped in all, of ${LIMIT_KIB}\n`);
if (total > LIMIT_KIB) process.exit(1);
