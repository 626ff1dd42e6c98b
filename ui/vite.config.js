import { sveltekit } from '@sveltejs/kit/vite';
import { defineConfig } from 'vitest/config';

// `npm run dev` talks to a Tracehouse (or to the mock) at this address.
const target = process.env.TRACEHOUSE_URL ?? 'http://127.0.0.1:3200';

/** What only the query page needs: large, and loaded when that page is opened. */
const LAZY = [
	[/[/\\]node_modules[/\\](@codemirror|@lezer|@marijn|style-mod|crelt|w3c-keyname)[/\\]|[/\\]traceql[/\\](editor|parser\.generated)/, 'editor'],
	[/[/\\]node_modules[/\\]uplot[/\\]|[/\\]query[/\\]plot\.ts/, 'plot']
];

/** Kit's single bundle takes in whatever is imported lazily, too; here those few parts stay apart from it. */
function lazyParts() {
	return {
		name: 'tracehouse-lazy-parts',
		apply: 'build',
		configResolved(config) {
			if (config.build.ssr) return;
			const { output } = config.build.rollupOptions;
			output.inlineDynamicImports = false;
			output.manualChunks = (id) => LAZY.find(([pattern]) => pattern.test(id))?.[1] ?? 'bundle';
		}
	};
}

export default defineConfig({
	plugins: [sveltekit(), lazyParts()],
	server: { proxy: { '/api': target, '/metrics': target } },
	build: { assetsInlineLimit: 0 },
	worker: { format: 'es' },
	test: { include: ['src/**/*.test.ts'] }
});
