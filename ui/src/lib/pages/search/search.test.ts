import { describe, expect, it } from 'vitest';
import { searchPage } from '$lib/address/pages';
import type { AttributeKeysAnswer, AttributeValuesAnswer } from '$lib/api/types';
import { formatAttributeFilter, parseAttributeFilter, splitScope, typingIn } from './attributeFilter';
import { matching, suggestAttribute } from './suggest';
import { differenceOf } from '$lib/address/parameters';
import { compareOf } from '$lib/metrics/compare';
import { countsBy, BY_SERVICE, layersOf, pickedOf, rowsOf } from './overview';
import { conditionOf } from '$lib/traceql/edit';
import { comparedColumns } from '$lib/metrics/comparedColumns';
import { narrowed, ofService, traceqlOf } from './traceql';

describe('attribute filters', () => {
	it.each([
		['http.route = /cart', 'http.route', '=', '/cart'],
		['http.route=/cart', 'http.route', '=', '/cart'],
		['a!=b', 'a', '!=', 'b'],
		['a=~b.*=c', 'a', '=~', 'b.*=c'],
		['a !~ b', 'a', '!~', 'b'],
		['n >= 500', 'n', '>=', '500'],
		['n<=5', 'n', '<=', '5'],
		['n > 5', 'n', '>', '5'],
		['q = "two words"', 'q', '=', 'two words'],
		['url = http://a/?b=c', 'url', '=', 'http://a/?b=c']
	])('%j reads as %s %s %s', (text, key, operator, value) => {
		const filter = parseAttributeFilter(text);
		expect(filter).toEqual({ key, operator, value });
		expect(parseAttributeFilter(formatAttributeFilter(filter!))).toEqual(filter);
	});

	it.each(['', 'key', 'key =', '= value', 'key ~ value'])('%j is not whole', (text) =>
		expect(parseAttributeFilter(text)).toBeNull()
	);

	it.each([
		['', 'key'],
		['http.ro', 'key'],
		['http.route ', 'operator'],
		['http.route !', 'operator'],
		['http.route =', 'value'],
		['http.route = /c', 'value'],
		['n >= 5', 'value']
	])('in %j one is typing a %s', (text, part) => expect(typingIn(text).part).toBe(part));

	it('splits the scope off a key', () => {
		expect(splitScope('span.http.route')).toEqual({ scope: 'span', key: 'http.route' });
		expect(splitScope('http.route')).toEqual({ scope: '', key: 'http.route' });
	});
});

describe('suggestions', () => {
	const keys = [
		{ scope: 'span', key: 'http.route' },
		{ scope: 'resource', key: 'service.name' }
	] satisfies AttributeKeysAnswer['keys'];
	const values = [{ type: 'string', value: '/cart' }] satisfies AttributeValuesAnswer['values'];

	it('offers names that begin with the text first', () => {
		expect(matching(['my-cart', 'cart', 'other'], 'CART')).toEqual(['cart', 'my-cart']);
	});

	it('goes from key to operator to value', () => {
		expect(suggestAttribute('rou', keys, values)[0]).toMatchObject({ value: 'span.http.route ', continues: true });
		expect(suggestAttribute('span.http.route ', keys, values)[0]).toMatchObject({ value: 'span.http.route = ' });
		expect(suggestAttribute('http.route = ', keys, values)).toEqual([{ value: 'http.route = /cart', label: '/cart' }]);
	});
});

describe('TraceQL from filters', () => {
	it('writes every filter', () => {
		const state = {
			...searchPage.read(new URLSearchParams()),
			service: 'cart',
			status: 'error' as const,
			minDuration: '200ms',
			attributes: ['span.http.route=/a"b', 'http.response.status_code>=500', 'resource.x=~a.*']
		};
		expect(traceqlOf(state)).toBe(
			'{ resource.service.name = "cart" && status = error && duration >= 200ms && span.http.route = "/a\\"b" && .http.response.status_code >= 500 && resource.x =~ "a.*" }'
		);
		expect(traceqlOf(searchPage.read(new URLSearchParams()))).toBe('{ }');
	});
});

describe('all that match', () => {
	const series = (labels: Record<string, string | null>, values: (number | null)[]) => ({
		labels: Object.entries(labels).map(([key, value]) => ({ key, type: 'string' as const, value })),
		values,
		exemplars: []
	});

	it('is counted by time, failed apart from the others', () => {
		const answer = { series: [series({ status: 'error' }, [1, 0]), series({ status: 'ok' }, [2, null]), series({ status: 'unset' }, [3, 4])], steps: 2 };
		const { layers, failed, total } = layersOf(answer);
		expect(layers.map(({ name, counts }) => [name, ...counts])).toEqual([['not failed', 5, 4], ['failed', 1, 0]]);
		expect([failed, total]).toEqual([1, 10]);
	});

	const plain = (counted: { name: string; count: number }[]) => counted.map(({ name, count }) => ({ name, count }));

	it('is counted by any field, values of each type apart, and those that have none', () => {
		const of = (type: 'string' | 'int' | 'empty', value: unknown, count: number) => ({
			...series({}, [count, null]),
			labels: [{ key: 'span.a', type, value }]
		});
		const counted = countsBy('span.a', { series: [of('string', '1', 1), of('int', 1, 4), of('empty', null, 3), of('string', '', 2)] });
		expect(counted.map(({ name, value, count }) => [name, count, conditionOf('span.a', value)])).toEqual([
			['1', 4, 'span.a = 1'],
			['(none)', 3, 'span.a = nil'],
			['(empty)', 2, 'span.a = ""'],
			['1', 1, 'span.a = "1"']
		]);
	});

	it('is counted by service, most first, tenants together', () => {
		const of = (service: string | null, tenant: string, count: number) => series({ 'resource.service.name': service, tenant }, [count]);
		expect(plain(countsBy(BY_SERVICE, { series: [of('b', 't', 1), of('a', 't', 1), of('a', 'u', 2), of('c', 't', 1)] }))).toEqual([
			{ name: 'a', count: 3 },
			{ name: 'b', count: 1 },
			{ name: 'c', count: 1 }
		]);
	});

	it('shows a service without a name as lists do, and finds it', () => {
		const of = (service: string | null) => ({ ...series({ 'resource.service.name': service }, [1]) });
		expect(plain(countsBy(BY_SERVICE, { series: [of(''), of(null), of('a')] }))).toEqual([
			{ name: 'unknown_service', count: 2 },
			{ name: 'a', count: 1 }
		]);
		const state = searchPage.read(new URLSearchParams('service=unknown_service'));
		expect(traceqlOf(state)).toBe(
			'{ (resource.service.name = "unknown_service" || resource.service.name = "" || resource.service.name = nil) }'
		);
	});

	it.each([
		['operation=a%0Ab%09c', '{ name = "a\\nb\\tc" }'],
		['operation=%5C%22', '{ name = "\\\\\\"" }'],
		['attr=http.route%3Da%0Ab', '{ .http.route = "a\\nb" }']
	])('%s becomes %s', (parameters, query) => {
		expect(traceqlOf(searchPage.read(new URLSearchParams(parameters)))).toBe(query);
	});

	it('is narrowed to a service the way the search was said', () => {
		const filters = searchPage.read(new URLSearchParams('status=error'));
		expect(ofService(filters, 'a "b"')).toEqual({ service: 'a "b"' });
		const traceql = (q: string) => ofService(searchPage.read(new URLSearchParams({ q })), 'a "b"').traceql;
		expect(traceql('{ status = error }')).toBe('{ status = error && resource.service.name = "a \\"b\\"" }');
		expect(traceql(' ')).toBe('{ resource.service.name = "a \\"b\\"" }');
	});
});

describe('a part of the heatmap', () => {
	const rows = { lows: [0.000524288, 0.001048576, 0.002097152], bounds: [0.001048576, 0.002097152, 0.004194304] };

	it.each([
		[0, 0, { min: 524_289, max: 1_048_576 }],
		[0, 2, { min: 524_289, max: 4_194_304 }],
		[1, 2, { min: 1_048_577, max: 4_194_304 }]
	])('of rows %d to %d is known again', (lowest, highest, durations) => {
		const picked = pickedOf(rows, 1000.4, 2000.2, lowest, highest);
		expect(picked).toEqual({ from: 1000, to: 2001, ...durations });
		expect(rowsOf(rows, picked)).toEqual({ lowest, highest });
	});

	it('holds spans that take no time', () => {
		const short = { lows: [0, 0.5e-9, 1e-9], bounds: [0, 1e-9, 2e-9] };
		const picked = pickedOf(short, 0, 1, 0, 0);
		expect([picked.min, picked.max]).toEqual([0, 0]);
		expect(rowsOf(short, picked)).toEqual({ lowest: 0, highest: 0 });
		expect(pickedOf(short, 0, 1, 1, 2)).toEqual({ from: 0, to: 1, min: 1, max: 2 });
	});

	it('whose bounds are no whole nanoseconds holds what the server counts there', () => {
		const bound = 2 ** 20.25 / 1e9;
		const [below, above] = [Math.floor(2 ** 20.25), Math.floor(2 ** 20.25) + 1];
		const part = { lows: [0.001048576, bound], bounds: [bound, bound * 2 ** 0.25] };
		expect(pickedOf(part, 0, 1, 0, 0)).toMatchObject({ min: 1_048_577, max: below });
		expect(pickedOf(part, 0, 1, 1, 1)).toMatchObject({ min: above });
	});

	it('may lie outside of what is drawn', () => {
		const { lowest, highest } = rowsOf(rows, { from: 0, to: 1, min: 5_000_000, max: 9_000_000 });
		expect(lowest > highest).toBe(true);
	});

	it('is compared with all that matches', () =>
		expect(differenceOf('{ status = error }', { from: 1_763_802_000_000, to: 1_763_802_060_000, min: 1, max: 2 })).toBe(
			'{ status = error } | compare({ duration >= 1ns && duration <= 2ns }, 10, 1763802000000000000, 1763802060000000000)'
		));

	it('is told as a table', () => {
		const count = (meta: string, value: string, spans: number) => ({
			labels: [
				{ key: '__meta_type', type: 'string' as const, value: meta },
				{ key: 'name', type: 'string' as const, value }
			],
			values: [spans],
			exemplars: []
		});
		const answer = compareOf([count('selection', 'a', 90), count('selection', 'b', 10), count('baseline', 'a', 100), count('baseline', 'b', 900)]);
		const columns = comparedColumns(answer);
		expect(columns.map(({ name }) => name).slice(0, 2)).toEqual(['attribute', 'value']);
		expect(columns.slice(0, 6).map(({ values }) => values[0])).toEqual(['name', 'a', 0.9, 0.1, 90, 100]);
	});
});

it.each([
	['{ }', '{ a = 1 }'],
	['{ status = error }', '{ status = error && a = 1 }'],
	['{ a } >> { b }', '{ a } >> { b } | { a = 1 }'],
	['{ a } || { b }', '{ a } || { b } | { a = 1 }'],
	['{ a } | count() > 1', '{ a } | count() > 1 | { a = 1 }'],
	['{ } with (most_recent=true)', '{ a = 1 } with (most_recent=true)'],
	['{ a } | count() > 1 with (most_recent=true)', '{ a } | count() > 1 | { a = 1 } with (most_recent=true)'],
	['{ name = "with (a)" }', '{ name = "with (a)" && a = 1 }']
])('%s narrowed is %s', (query, expected) => expect(narrowed(query, 'a = 1')).toBe(expected));
