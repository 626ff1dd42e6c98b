import { describe, expect, it } from 'vitest';
import { Keys, withKeys } from './keys';

describe('keys', () => {
	const take = (wanted: string[]) => {
		const keys = new Keys();
		return wanted.map((key) => keys.take(key));
	};

	it('are what was wanted, until that is taken', () => {
		expect(take(['a', 'b', 'a', 'a', ''])).toEqual(['a', 'b', 'a #2', 'a #3', '']);
	});

	it('differ whatever is wanted, even what a key with a number looks like', () => {
		for (const wanted of [
			['a', 'a #2', 'a', 'a #2', 'a'],
			['a #2', 'a', 'a', 'a #3', 'a'],
			['', '', ' #2', '__proto__', '__proto__', 'constructor']
		]) {
			expect(new Set(take(wanted)).size).toBe(wanted.length);
		}
	});

	it('stay with their items while others come after them', () => {
		const before = take(['a', 'b', 'a']);
		expect(take(['a', 'b', 'a', 'b']).slice(0, 3)).toEqual(before);
	});

	it('are quick when thousands want the same', () => {
		expect(new Set(take(Array.from({ length: 100_000 }, () => 'a'))).size).toBe(100_000);
	});

	it('come with the items', () => {
		expect(withKeys([{ id: 'x' }, { id: 'x' }], ({ id }) => id)).toEqual([
			{ id: 'x', key: 'x' },
			{ id: 'x', key: 'x #2' }
		]);
	});
});
