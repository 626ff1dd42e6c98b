import { describe, expect, it } from 'vitest';
import {
	attributeSearchHref,
	emptySearch,
	isUnfiltered,
	metricsParameters,
	queryHref,
	readQuery,
	readSearch,
	readTrace,
	searchHref,
	searchParameters,
	spansParameters,
	traceHref,
	traceIdIn,
	type SearchState
} from './url';

const params = (href: string) => new URL(href, 'http://here').searchParams;

describe('a search in the address', () => {
	it('leaves defaults out', () => expect(searchHref(emptySearch())).toBe('/'));

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
		live: true
	};

	it('comes back as it went in', () => {
		expect(readSearch(params(searchHref(whole)))).toEqual(whole);
		const traceql = { ...emptySearch(), traceql: '{ status = error && name = "a b" }', range: { preset: '15m' as const } };
		expect(readSearch(params(searchHref(traceql)))).toEqual(traceql);
		const open = { ...emptySearch(), range: { start: '2026-11-22T09:00:00.000Z', end: '' } };
		expect(readSearch(params(searchHref(open)))).toEqual(open);
	});

	it.each(['limit=0', 'limit=99999', 'limit=x', 'status=purple', 'kind=9', 'range=3y', 'sort=colour', 'attr='])(
		'falls back to defaults for %s',
		(text) => expect(readSearch(new URLSearchParams(text))).toEqual(emptySearch())
	);

	it('reads a condition that is there twice as one', () => {
		const { attributes } = readSearch(new URLSearchParams('attr=a=1&attr=b=2&attr=a=1&attr='));
		expect(attributes).toEqual(['a=1', 'b=2']);
		expect(searchParameters(readSearch(new URLSearchParams('attr=a=1&attr=a=1')), 0).getAll('attr')).toEqual(['a=1']);
	});

	it('counts relative ranges back from now', () => {
		const sent = searchParameters({ ...emptySearch(), range: { preset: '15m' } }, Date.UTC(2026, 10, 22, 10));
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
		expect(isUnfiltered({ ...emptySearch(), limit: 20, live: true })).toBe(true);
		expect(isUnfiltered({ ...emptySearch(), traceql: '{ }' })).toBe(true);
		expect(isUnfiltered(whole)).toBe(false);
		expect(isUnfiltered({ ...emptySearch(), traceql: 'constructor' })).toBe(false);
	});

	it('links to a value of an attribute', () => {
		const state = readSearch(params(attributeSearchHref('span', 'url.full', 'http://a/?b=c&d')));
		expect(state.attributes).toEqual(['span.url.full=http://a/?b=c&d']);
	});
});

describe('a trace in the address', () => {
	const id = '0123456789abcdef0123456789abcdef';

	it('comes back as it went in', () => {
		const state = { span: '0123456789abcdef', find: 'GET /x', zoom: { from: 10, to: 2000 } };
		expect(readTrace(params(traceHref(id, state)))).toEqual(state);
		expect(traceHref(id)).toBe(`/trace/${id}`);
		for (const zoom of ['junk', '1-', '-5-7', '1e3-2e3', `0-${'9'.repeat(400)}`, 'NaN-NaN'])
			expect(readTrace(new URLSearchParams({ zoom }))).toEqual({ span: '', find: '', zoom: null });
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
	const read = (href: string) => readQuery(new URL(href, 'http://x').searchParams);

	it('says nothing while nothing is asked', () => {
		expect(queryHref({})).toBe('/query');
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
		expect(read(queryHref(state))).toEqual(state);
	});

	it('asks for metrics between two ends, in steps or in one', () => {
		const now = Date.parse('2026-01-01T01:00:00Z');
		const asked = metricsParameters({ ...read('/query?range=15m'), q: '{ } | rate()' }, now);
		expect(Object.fromEntries(asked)).toEqual({
			q: '{ } | rate()',
			start: '2026-01-01T00:45:00.000Z',
			end: '2026-01-01T01:00:00.000Z',
			exemplars: '100'
		});
		expect(metricsParameters(read('/query?q=x&step=1m'), now).get('step')).toBe('1m');
		const whole = metricsParameters(read('/query?q=x&step=all'), now);
		expect([whole.get('instant'), whole.has('step')]).toEqual(['true', false]);
		expect(spansParameters(read('/query?q=x&limit=20'), now).get('limit')).toBe('20');
	});
});
