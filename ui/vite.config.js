import { sveltekit } from '@sveltejs/kit/vite';
import { defineConfig } from 'vitest/config';

// `npm run dev` talks to a Tracehouse (or to the mock) at this address.
const target = process.env.TRACEHOUSE_URL ?? 'http://127.0.0.1:3200';

/** Few files are there sooner than twenty: what all pages need is one, and what is large or shared by some is one each. */
const CHUNKS = [
	// One sheet that the page itself links: Kit does not wait for those of a route, and would show it bare for a moment.
	[/\.css$/, 'shared'],
	[/[/\\]node_modules[/\\](@codemirror|@lezer|@marijn|style-mod|crelt|w3c-keyname)[/\\]|[/\\]traceql[/\\](editor|parser\.generated)/, 'editor'],
	[/[/\\]node_modules[/\\]uplot[/\\]|[/\\]chart[/\\]plot\.ts/, 'plot'],
	[/[/\\]src[/\\]lib[/\\]traceql[/\\]/, 'traceql'],
	[/[/\\]src[/\\]lib[/\\](metrics[/\\](compare|chance)|components[/\\]CompareView)/, 'compare'],
	[/[/\\]src[/\\]lib[/\\](traces|chart)[/\\](?!sort\.|Canvas|ColumnTable|columns)/, 'charts'],
	[/[/\\]node_modules[/\\]|[/\\]src[/\\]lib[/\\](?!pages[/\\])|preload-helper/, 'shared']
];

function fewChunks() {
	return {
		name: 'tracehouse-few-chunks',
		apply: 'build',
		configResolved(config) {
			if (config.build.ssr) return;
			const { output } = config.build.rollupOptions;
			output.manualChunks = (id) => CHUNKS.find(([pattern]) => pattern.test(id))?.[1];
			output.chunkFileNames = '_app/immutable/chunks/[name].[hash].js';
		}
	};
}

export default defineConfig({
	plugins: [sveltekit(), fewChunks()],
	server: { proxy: { '/api': target, '/metrics': target } },
	build: { assetsInlineLimit: 0 },
	worker: { format: 'es' },
	test: { include: ['src/**/*.test.ts'] }
});
