import { createHash } from 'node:crypto';
import { readFile, readdir, rm, writeFile } from 'node:fs/promises';
import adapterStatic from '@sveltejs/adapter-static';
import { vitePreprocess } from '@sveltejs/vite-plugin-svelte';
import { routeScripts } from './scripts/routes.mjs';
import { versionName } from './scripts/version.mjs';

/**
 * The static adapter, plus two steps. The hashed font file is named in index.html, so that the browser asks for it
 * together with the scripts: with `font-display: optional` the first paint then already has the right face, and no
 * text ever moves. And early.js, which names what each page loads, stands in index.html itself: it would be one more way to the server
 * and back before any of that is asked for.
 */
function adapter() {
	const base = adapterStatic({ fallback: 'index.html', pages: 'build', assets: 'build' });
	return {
		name: 'tracehouse-static',
		async adapt(builder) {
			await base.adapt(builder);
			const assets = await readdir('build/_app/immutable/assets');
			const font = assets.find((name) => name.endsWith('.woff2'));
			if (!font) throw new Error('the build holds no font file');
			const page = await readFile('build/index.html', 'utf8');
			const link = `<link rel="preload" as="font" type="font/woff2" crossorigin href="/_app/immutable/assets/${font}" />`;
			const pages = Object.entries(routeScripts().routes).map(([id, files]) => [id.replace(/\[.*/, ''), files]);
			const early = (await readFile('build/early.js', 'utf8'))
				.replace('PAGES = {}', `PAGES = ${JSON.stringify(Object.fromEntries(pages))}`)
				.replace(/^\s*\/\/.*\n/gm, '');
			const hash = createHash('sha256').update(early).digest('base64');
			const whole = page
				.replace('</head>', `\t${link}\n\t</head>`)
				.replace('<script src="/early.js"></script>', () => `<script>${early}</script>`)
				.replace("script-src 'self'", `script-src 'self' 'sha256-${hash}'`);
			if (whole.includes('src="/early.js"') || !whole.includes(hash)) throw new Error('early.js is not in index.html');
			await writeFile('build/index.html', whole);
			await rm('build/early.js');
		}
	};
}

/** @type {import('@sveltejs/kit').Config} */
export default {
	preprocess: vitePreprocess(),
	compilerOptions: { runes: true },
	kit: {
		// Kit would name a build after the clock; the same sources should give the same files.
		version: { name: versionName() },
		adapter: adapter(),
		paths: { relative: false },
		// Everything comes from the server that answered; the inline scripts, Kit's own and early.js, are named by their hashes.
		csp: {
			mode: 'hash',
			directives: {
				'default-src': ['self'],
				'script-src': ['self'],
				'style-src': ['self', 'unsafe-inline'],
				'img-src': ['self', 'data:'],
				'font-src': ['self'],
				'connect-src': ['self'],
				'worker-src': ['self'],
				'object-src': ['none'],
				'base-uri': ['none'],
				'form-action': ['self']
			}
		}
	}
};
