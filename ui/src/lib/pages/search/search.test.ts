import { describe, expect, it } from 'vitest';
import { searchPage } from '$lib/address/pages';
import type { AttributeKeysAnswer, AttributeValuesAnswer } from '$lib/api/types';
import { formatAttributeFilter, parseAttributeFilter, splitScope, typingIn } from './attributeFilter';
import { matching, suggestAttribute } from './suggest';
import { countsByService, layersOf } from './overview';
import { ofService, traceqlOf } from './traceql';

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

	it('is counted by service, most first, tenants together', () => {
		const of = (service: string | null, tenant: string, count: number) => series({ 'resource.service.name': service, tenant }, [count]);
		expect(countsByService({ series: [of('b', 't', 1), of('a', 't', 1), of('a', 'u', 2), of('c', 't', 1)] })).toEqual([
			{ name: 'a', count: 3 },
			{ name: 'b', count: 1 },
			{ name: 'c', count: 1 }
		]);
	});

	it('shows a service without a name as lists do, and finds it', () => {
		const of = (service: string | null) => ({ ...series({ 'resource.service.name': service }, [1]) });
		expect(countsByService({ series: [of(''), of('a')] })).toEqual([
			{ name: 'a', count: 1 },
			{ name: 'unknown_service', count: 1 }
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
