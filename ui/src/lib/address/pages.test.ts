import { describe, expect, it } from 'vitest';
import { queryPage, searchPage, tracePage, traceIdIn, type SearchState } from './pages';
import { isUnfiltered, metricsParameters, searchParameters, spansParameters } from './parameters';
import { choose, fixed, resolve, zoomInto, zoomOut, type Scope, type TimeRange } from './scope';

const params = (href: string) => new URL(href, 'http://here').searchParams;

describe('a search in the address', () => {
	it('leaves defaults out', () => expect(searchPage.href(searchPage.read(new URLSearchParams()))).toBe('/'));

	const whole: SearchState = {
		traceql: null,
		service: 'cart & co',
		operation: 'GET /cart?x=1',
		status: 'error',
		kind: 'server',
		minDuration: '10ms',
		maxDuration: '2s',
		attributes: ['http.route=/cart', 'resource.k8s.pod.name=~cart-.*', 'note=a=b&c'],
		range: { start: '2026-11-22T09:00:00.000Z', end: '2026-11-22T10:00:00.000Z' },
		limit: 200,
		sort: { key: 'duration', descending: true },
		plot: 'traces',
		pick: { from: 1_763_802_000_000, to: 1_763_802_060_000, min: 524_288, max: 4_194_304 },
		by: 'span.http.route',
		view: 'tail',
		rate: 40,
		live: true,
		zoomedFrom: [],
		asOf: '',
		tenant: ''
	};

	it('comes back as it went in', () => {
		expect(searchPage.read(params(searchPage.href(whole)))).toEqual(whole);
		const traceql = { ...searchPage.read(new URLSearchParams()), traceql: '{ status = error && name = "a b" }', range: { preset: '15m' as const } };
		expect(searchPage.read(params(searchPage.href(traceql)))).toEqual(traceql);
		const open = { ...searchPage.read(new URLSearchParams()), range: { start: '2026-11-22T09:00:00.000Z', end: '' } };
		expect(searchPage.read(params(searchPage.href(open)))).toEqual(open);
	});

	it.each(['limit=0', 'limit=99999', 'limit=x', 'status=purple', 'kind=9', 'range=3y', 'sort=colour', 'attr=', 'pick=5-4-1-2', 'pick=1-2-3', 'pick=1-2-3-99999999999999999999'])(
		'falls back to defaults for %s',
		(text) => expect(searchPage.read(new URLSearchParams(text))).toEqual(searchPage.read(new URLSearchParams()))
	);

	it('reads a condition that is there twice as one', () => {
		const { attributes } = searchPage.read(new URLSearchParams('attr=a=1&attr=b=2&attr=a=1&attr='));
		expect(attributes).toEqual(['a=1', 'b=2']);
		expect(searchParameters(searchPage.read(new URLSearchParams('attr=a=1&attr=a=1')), 0).getAll('attr')).toEqual(['a=1']);
	});

	it('counts relative ranges back from now', () => {
		const sent = searchParameters({ ...searchPage.read(new URLSearchParams()), range: { preset: '15m' } }, Date.UTC(2026, 10, 22, 10));
		expect(sent.get('start')).toBe('2026-11-22T09:45:00.000Z');
		expect(sent.get('end')).toBeNull();
		expect(sent.get('limit')).toBe('50');
	});

	it('sends filters or TraceQL, never both', () => {
		const sent = searchParameters({ ...whole, traceql: '' }, 0);
		expect(sent.get('q')).toBe('{}');
		expect(sent.has('service')).toBe(false);
		expect(sent.has('attr')).toBe(false);
	});

	it('knows when nothing is filtered', () => {
		expect(isUnfiltered({ ...searchPage.read(new URLSearchParams()), limit: 20, live: true })).toBe(true);
		expect(isUnfiltered({ ...searchPage.read(new URLSearchParams()), traceql: '{ }' })).toBe(true);
		expect(isUnfiltered(whole)).toBe(false);
		expect(isUnfiltered({ ...searchPage.read(new URLSearchParams()), traceql: 'constructor' })).toBe(false);
	});
});

describe('a trace in the address', () => {
	const id = '0123456789abcdef0123456789abcdef';

	it('comes back as it went in', () => {
		const state = { span: '0123456789abcdef', find: 'GET /x', zoom: { from: 10, to: 2000 } };
		expect(tracePage.read(params(tracePage.href(state, id)))).toMatchObject(state);
		expect(tracePage.href({}, id)).toBe(`/trace/${id}`);
		for (const zoom of ['junk', '1-', '-5-7', '1e3-2e3', `0-${'9'.repeat(400)}`, 'NaN-NaN'])
			expect(tracePage.read(new URLSearchParams({ zoom }))).toMatchObject({ span: '', find: '', zoom: null });
	});

	it.each([
		[id, id],
		[` ${id.toUpperCase()}\n`, id],
		[`"${id}"`, id],
		['01234567-89ab-cdef-0123-456789abcdef', id],
		[`https://host/trace/${id}?span=1`, id],
		['0123456789abcdef', '00000000000000000123456789abcdef'],
		['0x0123456789abcdef', '00000000000000000123456789abcdef'],
		['0'.repeat(32), null],
		['xyz', null],
		['', null]
	])('%j is the trace %s', (text, found) => expect(traceIdIn(text)).toBe(found));
});

describe('the query page’s address', () => {
	const read = (href: string) => queryPage.read(new URL(href, 'http://x').searchParams);

	it('says nothing while nothing is asked', () => {
		expect(queryPage.href({})).toBe('/query');
		expect(read('/query')).toMatchObject({ q: null, step: '', tab: 'traces' });
		expect(read('/query?q=%20&step=7x&tab=what')).toMatchObject({ q: null, step: '', tab: 'traces' });
	});

	it('survives the way there and back', () => {
		const state = {
			q: '{ name = "a&b" } | rate()',
			range: { start: '2026-01-01T00:00:00Z', end: '' },
			step: '1m',
			tab: 'spans',
			limit: 200,
			sort: { key: 'duration', descending: true }
		} as const;
		expect(read(queryPage.href(state))).toMatchObject(state);
	});

	it('asks for metrics between two ends, in steps or in one', () => {
		const now = Date.parse('2026-01-01T01:00:00Z');
		const asked = metricsParameters({ ...read('/query?range=15m'), q: '{ } | rate()' }, now);
		expect(Object.fromEntries(asked)).toEqual({
			q: '{ } | rate()',
			start: '2026-01-01T00:45:00.000Z',
			end: '2026-01-01T01:00:00.000Z',
			exemplars: '20',
			buckets: '4'
		});
		expect(metricsParameters(read('/query?q=x&step=1m'), now).get('step')).toBe('1m');
		const whole = metricsParameters(read('/query?q=x&step=all'), now);
		expect([whole.get('instant'), whole.has('step')]).toEqual(['true', false]);
		expect(spansParameters(read('/query?q=x&limit=20'), now).get('limit')).toBe('20');
	});
});

/** Links that people have saved; none of them may ever mean something else. */
const SAVED: [page: keyof typeof PAGES, link: string, state: object][] = [
	['search', '/', { traceql: null, service: '', range: { preset: '1h' }, limit: 50, sort: { key: 'start', descending: true }, live: false }],
	[
		'search',
		'/?service=cart&operation=GET+%2Fcart&status=error&kind=server&minDuration=10ms&maxDuration=2s&attr=http.route%3D%2Fcart&attr=x%3E1&range=6h&limit=200&sort=-duration&live=1',
		{
			service: 'cart',
			operation: 'GET /cart',
			status: 'error',
			kind: 'server',
			minDuration: '10ms',
			maxDuration: '2s',
			attributes: ['http.route=/cart', 'x>1'],
			range: { preset: '6h' },
			limit: 200,
			sort: { key: 'duration', descending: true },
			live: true
		}
	],
	['search', '/?q=%7B+status+%3D+error+%7D&start=2026-01-01T00%3A00%3A00Z', { traceql: '{ status = error }', range: { start: '2026-01-01T00:00:00Z', end: '' } }],
	['search', '/?q=', { traceql: '' }],
	['search', '/?sort=root', { sort: { key: 'root', descending: false } }],
	['search', '/?attr=a=1&attr=a=1', { attributes: ['a=1'] }],
	['query', '/query', { q: null }],
	[
		'query',
		'/query?q=%7B+%7D+%7C+rate%28%29&start=2026-01-01T00%3A00%3A00Z&end=2026-01-01T01%3A00%3A00Z&step=all&tab=spans&limit=20&sort=-errors',
		{
			q: '{ } | rate()',
			range: { start: '2026-01-01T00:00:00Z', end: '2026-01-01T01:00:00Z' },
			step: 'all',
			tab: 'spans',
			limit: 20,
			sort: { key: 'errors', descending: true }
		}
	],
	['trace', '/trace/?span=0123456789abcdef&find=GET+%2Fx&zoom=10-2000', { span: '0123456789abcdef', find: 'GET /x', zoom: { from: 10, to: 2000 } }]
];

/** Numbers that look random and are the same each time. */
function randomOf(seed: number) {
	let state = seed;
	return (below: number) => {
		state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
		return Math.floor((state / 2 ** 32) * below);
	};
}

/** What addresses are known to break at. */
const HOSTILE = [
	'', ' ', '0', '-', '/', '//', '/a/b', '?', '#', '&', '=', '&&==', 'a=1&b=2', '%', '%20', '%zz', '%00', '+', 'a+b', '\0', '\t\n\r', '\\',
	'"\'`', '<script>alert(1)</script>', '{ name = "a&b" } | rate()', '__proto__', 'constructor', 'toString', 'null', 'undefined', 'NaN',
	'Infinity', '1e999', '-0', '\u202eabc', '\u0645\u0631\u062d\u0628\u0627', '\u{1f3b8}', '\ud800', 'e\u0301', '\ufeff', 'x'.repeat(3000), '9'.repeat(400)
];

const SEEDS = Array.from({ length: 300 }, (_, seed) => seed);

function generators(random: (below: number) => number) {
	const one = <T,>(items: readonly T[]): T => items[random(items.length)]!;
	const any = () => Array.from({ length: random(4) }, () => one(HOSTILE)).join('').toWellFormed();
	const time = () => new Date(random(2 ** 31) * 1000 + random(1000)).toISOString();
	const range = (): TimeRange => (random(2) ? { preset: one(['15m', '1h', '6h', '24h', '7d'] as const) } : { start: time(), end: random(2) ? time() : '' });
	const scope = {
		range: (): TimeRange => (random(3) ? range() : { start: any() || 'x', end: any() }),
		zoomedFrom: () => Array.from({ length: random(9) }, range),
		asOf: () => (random(2) ? time() : ''),
		tenant: () => any().trim(),
		live: () => random(2) === 1
	};
	const limit = () => 1 + random(1000);
	const sort = () => ({ key: one(['start', 'root', 'duration', 'spans', 'errors'] as const), descending: random(2) === 1 });
	const plot = () => one(['', 'traces'] as const);
	const view = () => one(['', 'tail'] as const);
	const rate = () => 2 + random(199);
	const pick = () => {
		const [from, min] = [random(2 ** 31), random(2 ** 31)];
		return random(2) ? { from, to: from + 1 + random(2 ** 31), min, max: min + 1 + random(2 ** 31) } : null;
	};
	const search = {
		...scope,
		service: any,
		operation: any,
		status: () => one(['', 'error', 'ok', 'unset'] as const),
		kind: () => one(['', 'server', 'client', 'internal', 'producer', 'consumer'] as const),
		minDuration: any,
		maxDuration: any,
		attributes: () => [...new Set(Array.from({ length: random(5) }, any))].filter((item) => item !== ''),
		traceql: () => null,
		limit,
		sort,
		view,
		rate,
		plot,
		pick,
		by: any
	} satisfies { [K in keyof SearchState]: () => SearchState[K] };
	return [
		['search', searchPage, search],
		['search in TraceQL', searchPage, { ...scope, traceql: any, limit, sort, view, rate, plot, pick, by: any }],
		['query', queryPage, {
			...scope,
			q: () => (random(3) ? any().trim() || null : null),
			step: () => one(['', '1s', '5m', 'all'] as const),
			tab: () => one(['traces', 'spans', 'series'] as const),
			limit,
			sort
		}],
		['trace', tracePage, { ...scope, span: any, find: any, zoom: () => (random(2) ? { from: random(1e9), to: random(1e9) } : null) }]
	] as const;
}

const PAGES = { search: searchPage, query: queryPage, trace: tracePage };
type AnyPage = { read(said: URLSearchParams): object; href(part: object): string };

describe('every page', () => {
	it.each(SAVED)('of %s, %s means what it meant', (name, link, state) => {
		const { read, href } = PAGES[name] as AnyPage;
		expect(read(params(link))).toMatchObject(state);
		// The order is of no matter.
		const sorted = (address: string) => [...new Set([...params(address)].map(String))].sort();
		expect(sorted(href(state))).toEqual(sorted(link));
	});

	it('reads what it writes, whatever it says', () => {
		for (const seed of SEEDS) {
			for (const [name, page, table] of generators(randomOf(seed))) {
				const state = Object.fromEntries(Object.entries(table).map(([field, make]) => [field, make()]));
				const { read, href } = page as AnyPage;
				expect(read(params(href(state))), `${name} ${seed}`).toEqual({ ...read(new URLSearchParams()), ...state });
			}
		}
	});

	it.each(Object.entries(PAGES))('%s lives with any address, and writes one that stays as it is', (_, page) => {
		const { fields, read, href } = page as AnyPage & { fields: object };
		// The names that addresses use, and some they do not.
		const names = ['q', 'attr', 'start', 'end', 'from', 'at', 'minDuration', 'maxDuration', '', '__proto__', 'x', ...Object.keys(fields)];
		for (const seed of SEEDS) {
			const random = randomOf(seed);
			const said = new URLSearchParams();
			for (let count = random(9); count > 0; count -= 1) said.append(names[random(names.length)]!, HOSTILE[random(HOSTILE.length)]!);
			const state = read(said);
			expect(read(params(href(state)))).toEqual(state);
			for (const value of Object.values(state)) if (Array.isArray(value)) expect(new Set(value).size).toBe(value.length);
		}
	});

	it.each(Object.entries(PAGES))('%s says nothing of what is as usual', (name, page) => {
		const { read, href } = page as AnyPage;
		expect(href(read(new URLSearchParams()))).toBe({ search: '/', query: '/query', trace: '/trace/' }[name]);
	});

	it.each(Object.entries(PAGES))('%s takes along which time is shown, and whose spans', (_, page) => {
		const said = 'range=6h&from=7d&from=24h&at=2026-01-01T00%3A00%3A00Z&tenant=red%7Cblue&live=1';
		const scope = (page as AnyPage).read(new URLSearchParams(said));
		for (const { read, href } of Object.values(PAGES) as AnyPage[]) {
			expect(read(params(href(scope)))).toMatchObject({
				range: { preset: '6h' },
				zoomedFrom: [{ preset: '7d' }, { preset: '24h' }],
				asOf: '2026-01-01T00:00:00Z',
				tenant: 'red|blue',
				live: true
			});
		}
	});
});

describe('the scope', () => {
	const usual: Scope = queryPage.read(new URLSearchParams());
	const part = { start: '2026-01-01T00:00:00Z', end: '2026-01-01T00:10:00Z' };
	const now = Date.parse('2026-01-01T01:00:00Z');

	it('zooms in and out again, and forgets the way when another range is chosen', () => {
		const once = { ...usual, ...zoomInto(usual, part) };
		const twice = { ...once, ...zoomInto(once, { ...part, end: '2026-01-01T00:01:00Z' }) };
		expect(twice.zoomedFrom).toEqual([usual.range, part]);
		const out = { ...twice, ...zoomOut(twice) };
		expect(out).toEqual(once);
		expect({ ...out, ...zoomOut(out) }).toEqual(usual);
		expect({ ...twice, ...choose({ preset: '7d' }) }).toMatchObject({ range: { preset: '7d' }, zoomedFrom: [] });
	});

	it('keeps so many steps, and none that means nothing', () => {
		let scope: Scope = { ...usual, range: { start: 'yesterday/today', end: '' } };
		for (let step = 0; step < 12; step += 1) scope = { ...scope, ...zoomInto(scope, { ...part, end: `2026-01-01T00:00:${10 + step}Z` }) };
		expect(scope.zoomedFrom).toHaveLength(8);
		expect(queryPage.read(params(queryPage.href(scope))).zoomedFrom).toEqual(scope.zoomedFrom);
	});

	it.each<[string, Partial<Scope>, { start: string; end: string }]>([
		['a preset', { range: { preset: '15m' } }, { start: '2026-01-01T00:45:00.000Z', end: '' }],
		['a preset as of a moment', { range: { preset: '1h' }, asOf: '2025-12-31T12:00:00Z' }, { start: '2025-12-31T11:00:00.000Z', end: '2025-12-31T12:00:00Z' }],
		['two ends', { range: part }, part],
		['two ends as of a moment', { range: part, asOf: '2025-12-31T12:00:00Z' }, part],
		['an open end', { range: { ...part, end: '' } }, { start: part.start, end: '' }],
		['an open end as of a moment', { range: { ...part, end: '' }, asOf: '2026-01-02T00:00:00Z' }, { start: part.start, end: '2026-01-02T00:00:00Z' }]
	])('%s is resolved', (_, scope, ends) => expect(resolve({ ...usual, ...scope }, now)).toEqual(ends));

	it.each<[string, Partial<Scope>, Partial<Scope>]>([
		['a preset', { live: true }, { asOf: '2026-01-01T01:00:00.000Z', live: false }],
		['an open end', { range: { ...part, end: '' } }, { asOf: '2026-01-01T01:00:00.000Z' }],
		['two ends', { range: part }, { asOf: '' }],
		['what is fixed already', { asOf: '2025-12-31T12:00:00Z' }, { asOf: '2025-12-31T12:00:00Z' }]
	])('%s can be fixed, to mean the same later', (_, scope, expected) => {
		const shown = { ...usual, ...scope };
		const link = { ...shown, ...fixed(shown, now) };
		expect(link).toMatchObject(expected);
		expect(resolve(link, now + 1e9)).toEqual({ ...resolve(shown, now), end: resolve(link, now).end });
	});
});
