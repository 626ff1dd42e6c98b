/** A name for what is built: a hash of its sources, so that the same sources have the same name, and others another. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
const FILES = ['package-lock.json', 'svelte.config.js', 'vite.config.js'];
const FOLDERS = ['src', 'static'];
/** Written by a build, or never part of one. */
const LEFT_OUT = /\.(generated(\.terms)?|test)\.ts$/;

function filesBelow(folder) {
	const entries = readdirSync(ROOT + folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
	return entries.map((entry) => `${entry.parentPath}/${entry.name}`.slice(ROOT.length).replaceAll('\\', '/'));
}

export function versionName() {
	const hash = createHash('sha256');
	const files = [...FILES, ...FOLDERS.flatMap(filesBelow)].filter((file) => !LEFT_OUT.test(file));
	for (const file of files.sort()) hash.update(`${file}\0`).update(readFileSync(ROOT + file)).update('\0');
	return hash.digest('hex').slice(0, 16);
}
