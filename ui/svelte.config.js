import { readFile, readdir, writeFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import adapterStatic from '@sveltejs/adapter-static';
import { vitePreprocess } from '@sveltejs/vite-plugin-svelte';

const manifest = JSON.parse(readFileSync(new URL('./package.json', import.meta.url), 'utf8'));

/**
 * The static adapter, plus one step: name the hashed font file in index.html, so that the browser asks for it
 * together with the scripts. With `font-display: optional` the first paint then already has the right face,
 * and no text ever moves.
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
			await writeFile('build/index.html', page.replace('</head>', `\t${link}\n\t</head>`));
		}
	};
}

/** @type {import('@sveltejs/kit').Config} */
export default {
	preprocess: vitePreprocess(),
	compilerOptions: { runes: true },
	kit: {
		// Kit would name a build after the clock; the same sources should give the same files.
		version: { name: manifest.version },
		adapter: adapter(),
		paths: { relative: false },
		// Two pages of one size share nearly everything: one script is there sooner than twenty, and both open at once.
		output: { bundleStrategy: 'single' },
		// Everything comes from the server that answered; the one inline script is Kit's own and is named by its hash.
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
