/** Who may import whom. A page is a private folder: only its route knows it, and what is shared knows no page. */
import { describe, expect, it } from 'vitest';

/** Files `of` a zone, by their paths below `src`, must `never` import these; `$1` is what `of` caught. */
const ZONES = [
	{ of: /^lib\/pages\/(\w+)\//, never: '^lib/pages/(?!$1/)', why: 'a page knows no other page' },
	{ of: /^lib\/(?!pages\/)()/, never: '^lib/pages/', why: 'what is shared knows no page' },
	{ of: /^lib\/()/, never: '^routes/', why: 'nothing knows a route' },
	{ of: /^lib\/chart\/()/, never: '^lib/(address|api|ask)/', why: 'a chart takes plain columns, never an answer' },
	{ of: /^lib\/(?:address|api|ask)\/()/, never: '^lib/(chart|components|shell)/', why: 'asking knows nothing of drawing' }
];

function broken(file: string, imported: string): string[] {
	return ZONES.filter(({ of, never }) => {
		const caught = of.exec(file);
		return caught !== null && new RegExp(never.replace('$1', caught[1]!)).test(imported);
	}).map(({ why }) => `${file} imports ${imported}: ${why}`);
}

/** The paths below `src` that a file imports; packages are none of our zones. */
function importsOf(file: string, text: string): string[] {
	const named = [...text.matchAll(/(?:\bfrom|\bimport\(?)\s*['"]([^'"?]+)/g)].map((match) => match[1]!);
	return named.flatMap((name) => {
		if (name.startsWith('$lib/')) return [name.replace('$lib/', 'lib/')];
		return name.startsWith('.') ? [new URL(name, `file:///${file}`).pathname.slice(1)] : [];
	});
}

const texts = import.meta.glob<string>(['/src/**/*.{ts,svelte}', '!/src/**/*.{test,generated,generated.terms}.ts'], {
	query: '?raw',
	import: 'default',
	eager: true
});
const files = Object.entries(texts).map(([path, text]) => ({ path: path.slice('/src/'.length), text }));

describe('zones', () => {
	it.each([
		['lib/pages/query/a.ts', 'lib/pages/query/b', 0],
		['lib/pages/query/a.ts', 'lib/pages/queryother/b', 1],
		['lib/pages/query/a.ts', 'lib/pages/search/b', 1],
		['lib/traces/a.ts', 'lib/pages/search/b', 1],
		['lib/traces/a.ts', 'lib/chart/b', 0],
		['lib/chart/a.ts', 'lib/api/types', 1],
		['lib/ask/a.ts', 'lib/components/Panel.svelte', 1],
		['lib/components/a.ts', 'routes/+page.svelte', 1],
		['routes/query/+page.svelte', 'lib/pages/query/a', 0]
	])('%s may import %s? %d broken rules', (file, imported, count) => {
		expect(broken(file, imported)).toHaveLength(count);
	});

	it('sees every way to import', () => {
		const text = `import a from './a'; import type { B } from "../x/b"; import '$lib/c.css'; import('$lib/d'); import w from './w?worker'; import 'svelte';`;
		expect(importsOf('lib/x/y.ts', text)).toEqual(['lib/x/a', 'lib/x/b', 'lib/c.css', 'lib/d', 'lib/x/w']);
	});

	it('are kept', () => {
		expect(files.length).toBeGreaterThan(80);
		expect(files.flatMap(({ path, text }) => importsOf(path, text).flatMap((imported) => broken(path, imported)))).toEqual([]);
	});

	it('leave each route one page', () => {
		for (const { path, text } of files.filter((file) => file.path.startsWith('routes/'))) {
			const pages = importsOf(path, text).flatMap((imported) => /^lib\/pages\/(\w+)\//.exec(imported)?.[1] ?? []);
			expect(new Set(pages).size, path).toBeLessThanOrEqual(1);
		}
	});

	it('let nothing but the client ask the server', () => {
		expect(files.filter(({ text }) => /\bfetch\(|XMLHttpRequest|EventSource\(/.test(text)).map(({ path }) => path)).toEqual(['lib/api/client.ts']);
	});
});
