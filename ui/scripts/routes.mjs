/** Which scripts each route loads before it shows anything, as Vite and SvelteKit tell it after a build. */
import { readFileSync } from 'node:fs';

const KIT = new URL('../.svelte-kit/', import.meta.url);
const CLIENT = '.svelte-kit/generated/client-optimized';
const START = ['node_modules/@sveltejs/kit/src/runtime/client/entry.js', `${CLIENT}/app.js`, `${CLIENT}/nodes/0.js`];

/** `{ all, routes }`: the scripts of every route, and by a route's id (`/trace/[id]`) those it needs beside them. */
export function routeScripts() {
	const manifest = JSON.parse(readFileSync(new URL('output/client/.vite/manifest.json', KIT), 'utf8'));
	const app = readFileSync(new URL('generated/client-optimized/app.js', KIT), 'utf8');
	const [, dictionary] = /export const dictionary = (\{[^}]*\})/.exec(app);

	function gather(key, files) {
		const { file, imports = [] } = manifest[key];
		if (files.has(file)) return files;
		files.add(file);
		for (const other of imports) gather(other, files);
		return files;
	}

	const all = START.reduce((files, key) => gather(key, files), new Set());
	const routes = Object.entries(JSON.parse(dictionary)).map(([id, [node]]) => {
		const files = gather(`${CLIENT}/nodes/${node}.js`, new Set());
		return [id, [...files].filter((file) => !all.has(file))];
	});
	return { all: [...all], routes: Object.fromEntries(routes) };
}
