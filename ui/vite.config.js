import { sveltekit } from '@sveltejs/kit/vite';
import { defineConfig } from 'vitest/config';

// `npm run dev` talks to a Tracehouse (or to the mock) at this address.
const target = process.env.TRACEHOUSE_URL ?? 'http://127.0.0.1:3200';

export default defineConfig({
	plugins: [sveltekit()],
	server: { proxy: { '/api': target, '/metrics': target } },
	build: { assetsInlineLimit: 0 },
	worker: { format: 'es' },
	test: { include: ['src/**/*.test.ts'] }
});
