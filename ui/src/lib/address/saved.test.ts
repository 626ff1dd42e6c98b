import { describe, expect, it } from 'vitest';
import { queryPage, searchPage } from './pages';
import { SCOPE, type Scope } from './scope';
import { canBeSaved, hrefOfSaved, toBeSaved } from './saved';

const anyScope = (part: Partial<Scope> = {}): Scope => ({
	range: SCOPE.range.initial,
	zoomedFrom: [],
	asOf: '',
	tenant: '',
	live: false,
	...part
});
const at = (address: string) => new URL(address, 'http://traces.example');

describe('a saved query', () => {
	it.each([
		['keeps what is asked', '/query?q=%7B%7D&step=1m&tab=spans', '/query?q=%7B%7D&step=1m&tab=spans'],
		['keeps a range that moves', '/?service=cart&range=6h&tenant=a&live=1', '/?service=cart&range=6h'],
		['leaves out fixed ends', '/?service=cart&start=2026-01-01T00%3A00%3A00Z&end=2026-01-02T00%3A00%3A00Z&from=6h', '/?service=cart'],
		['leaves out the moment', '/query?q=%7B%7D&at=2026-01-01T00%3A00%3A00Z', '/query?q=%7B%7D']
	])('%s', (_, shown, saved) => expect(toBeSaved(at(shown))).toBe(saved));

	it('is opened in the present scope', () => {
		const scope = anyScope({ tenant: 'b', range: { preset: '15m' }, live: true });
		const q = hrefOfSaved('/query?q=%7B%7D&step=1m', scope)!;
		expect(queryPage.read(at(q).searchParams)).toMatchObject({ q: '{}', step: '1m', tenant: 'b', range: { preset: '15m' }, live: true });
		const own = hrefOfSaved('/?service=cart&range=6h&tenant=a', scope)!;
		expect(searchPage.read(at(own).searchParams)).toMatchObject({ service: 'cart', tenant: 'b', range: { preset: '6h' }, live: true });
	});

	it.each(['/trace/1', '/other', '//elsewhere.example/', '/\\elsewhere.example', 'https://elsewhere.example/', 'javascript:alert(1)', ''])(
		'that leads elsewhere is no link: %s',
		(address) => expect(hrefOfSaved(address, anyScope())).toBeNull()
	);

	it('is of a page whose address says it all', () => {
		expect(['/', '/query?q=1', '/trace/1', '/other'].map((address) => canBeSaved(at(address)))).toEqual([true, true, false, false]);
	});
});
