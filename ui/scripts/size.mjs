/** Checks that the scripts a route needs before it shows anything stay small: `npm run size`, after a build. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { routeScripts } from './routes.mjs';

const LIMIT_KIB = 100;
const build = fileURLToPath(new URL('../build/', import.meta.url));
const kib = (file) => gzipSync(readFileSync(build + file), { level: 9 }).length / 1024;
const { all, routes } = routeScripts();

let tooLarge = false;
for (const [route, files] of Object.entries(routes)) {
	const scripts = ['early.js', ...all, ...files];
	const total = scripts.reduce((sum, file) => sum + kib(file), 0);
	process.stdout.write(`${total.toFixed(1).padStart(6)} KiB gzipped of ${LIMIT_KIB}, ${scripts.length} scripts  ${route}\n`);
	tooLarge ||= total > LIMIT_KIB;
}
if (tooLarge) process.exit(1);
