/** Checks that the scripts a route needs before it shows anything stay small: `npm run size`, after a build. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

const LIMIT_KIB = 100;
const build = fileURLToPath(new URL('../build/', import.meta.url));
const read = (file) => readFileSync(build + file, 'utf8');
const kib = (file) => gzipSync(read(file), { level: 9 }).length / 1024;

/** What the page itself names, and what it asks for beside that on each route. */
const all = new Set([...read('index.html').matchAll(/["']\/([^"']+\.js)["']/g)].map((match) => match[1]));
const routes = JSON.parse(/ PAGES = (\{.*\});/.exec(read('index.html'))[1]);
if (Object.keys(routes).length === 0 || all.size < 3) throw new Error('the build names no scripts');

let tooLarge = false;
for (const [route, files] of Object.entries(routes)) {
	const scripts = [...all, ...files];
	const total = scripts.reduce((sum, file) => sum + kib(file), 0);
	process.stdout.write(`${total.toFixed(1).padStart(6)} KiB gzipped of ${LIMIT_KIB}, ${scripts.length} scripts  ${route}\n`);
	tooLarge ||= total > LIMIT_KIB;
}
if (tooLarge) process.exit(1);
