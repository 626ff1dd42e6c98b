import { describe, expect, it } from 'vitest';
import { fit, found, SHOWN_MAX, traceTyped, type Entry } from './palette';

const entry = (text: string, kind: Entry['kind'] = 'service'): Entry => ({ kind, text, open: '/' });
const texts = (entries: Entry[], typed: string) => found(entries, typed).shown.map(({ text }) => text);

describe('the palette', () => {
	it.each([
		['checkout', 'checkout', 'better than', 'checkout-worker'],
		['checkout', 'check', 'better than', 'recheck'],
		['cart-api', 'api', 'better than', 'capital'],
		['GET /cart', 'cart', 'better than', 'carousel-art'],
		['POST /orders', 'post ord', 'fits, unlike', 'GET /orders'],
		['größe', 'GRÖ', 'fits, unlike', 'groesse'],
		['payment', 'pmt', 'fits, unlike', 'tmp']
	])('%s for "%s" %s %s', (better, typed, _, worse) => {
		expect(fit(better, typed)).not.toBeNull();
		expect(fit(better, typed)!).toBeGreaterThan(fit(worse, typed) ?? -Infinity);
	});

	it('offers pages, queries and actions before anything is typed', () => {
		const all = [entry('cart'), entry('Next trace', 'action'), entry('Search', 'page'), entry('{ }', 'query')];
		expect(texts(all, ' ')).toEqual(['Search', 'Next trace', '{ }']);
	});

	it('has no kind crowd out the others, and tells how many there are', () => {
		const all = [...Array.from({ length: 900 }, (_, index) => entry(`GET /${index}`, 'operation')), entry('GETTER')];
		const { shown, total } = found(all, 'get');
		expect(total).toBe(901);
		expect(shown.length).toBeLessThanOrEqual(SHOWN_MAX);
		expect(shown.map(({ text }) => text)).toContain('GETTER');
	});

	it.each([
		[' 5B8EFFF798038103D269B633813FC60C ', ['/t/5b8efff798038103d269b633813fc60c']],
		['https://jaeger.example/trace/5b8efff798038103d269b633813fc60c?x=1', ['/t/5b8efff798038103d269b633813fc60c']],
		['d269b633813fc60c', ['/t/0000000000000000d269b633813fc60c']],
		['cart', []],
		['00000000000000000000000000000000', []]
	])('leads from %s to a trace', (typed, expected) => {
		const traces = traceTyped(typed, (id) => `/t/${id}`);
		expect(traces.map(({ open }) => open)).toEqual(expected);
		expect(found([...traces, entry('cart')], typed).shown[0]?.kind).toBe(expected.length > 0 ? 'trace' : found([entry('cart')], typed).shown[0]?.kind);
	});
});
