import { describe, expect, it } from 'vitest';
import type { TailAnswer, TraceSummary } from '$lib/api/types';
import { KEPT_MAX, merge, Tail } from './tail.svelte';

const trace = (key: string, spanCount = 1) => ({ key, traceId: key, spanCount }) as TraceSummary;
const answer = (position: string, traces: TraceSummary[], tracesMatched = traces.length): TailAnswer => ({
	position,
	traces,
	tracesMatched,
	tracesBegun: tracesMatched,
	spansArrived: 10 * tracesMatched,
	complete: true,
	partialReason: null,
	elapsedNanos: 1
});
const keys = (traces: TraceSummary[]) => traces.map(({ key, spanCount }) => `${key}${spanCount}`).join(' ');

describe('traces that come', () => {
	it.each([
		['', 'b1 a1', 'b1 a1'],
		['a1', 'c1 b1', 'c1 b1 a1'],
		['b1 a1', 'a3', 'b1 a3'],
		['b1 a1', 'c1 a2 ', 'c1 b1 a2']
	])('to %s comes %s', (list, came, expected) => {
		const traces = (said: string) => said.split(' ').filter(Boolean).map((each) => trace(each[0]!, Number(each[1])));
		expect(keys(merge(traces(list), traces(came)))).toBe(expected);
	});

	it('push out the oldest', () => {
		const list = Array.from({ length: KEPT_MAX }, (_, number) => trace(`old ${number}`));
		const merged = merge(list, [trace('new')]);
		expect([merged.length, merged[0]!.key, merged.at(-1)!.key]).toEqual([KEPT_MAX, 'new', `old ${KEPT_MAX - 2}`]);
	});
});

describe('a live tail', () => {
	it('goes on from the last position and counts what it does not list', () => {
		const tail = new Tail();
		tail.begin();
		expect(tail.position).toBe(null);
		tail.take(answer('7', []), 1_000);
		tail.take(answer('8', [trace('b'), trace('a')], 40), 1_500);
		expect(tail.rate).toBe(null);
		tail.take(answer('9', [trace('c'), trace('a', 2)], 20), 5_000);
		expect([tail.position, keys(tail.traces), tail.matched, tail.listed, tail.spans, tail.rate]).toEqual(['9', 'c1 b1 a2', 60, 3, 600, 15]);
		tail.take(answer('10', []), 60_000);
		tail.take(answer('11', []), 63_000);
		expect(tail.rate).toBe(0);
		tail.clear(64_000);
		expect([tail.position, tail.traces.length, tail.matched, tail.sinceMillis]).toEqual(['11', 0, 0, 64_000]);
		tail.begin();
		expect([tail.position, tail.sinceMillis]).toEqual([null, null]);
	});

	it('lists as many in a second as it may, however they come', () => {
		const tail = new Tail();
		const ids = (count: number) => Array.from({ length: count }, (_, id) => trace(String(id)));
		expect(tail.limitOf(10, 0)).toBe(10);
		tail.take(answer('1', ids(8)), 0);
		expect(tail.limitOf(10, 500)).toBe(7);
		tail.take(answer('2', ids(7)), 500);
		expect(tail.limitOf(10, 1_000)).toBe(5);
		tail.take(answer('3', []), 1_000);
		// What was left of the seconds before is not saved up.
		expect(tail.limitOf(10, 9_000)).toBe(10);
		expect(new Tail().limitOf(2, 0)).toBe(2);
	});

	it.each(['isPaused', 'isReading'] as const)('holds what comes while %s', (why) => {
		const tail = new Tail();
		tail.take(answer('1', [trace('a')]), 0);
		tail[why] = true;
		tail.take(answer('2', [trace('b'), trace('a', 2)]), 500);
		tail.take(answer('3', [trace('c')]), 1_000);
		expect([keys(tail.traces), keys(tail.held), tail.matched, tail.listed]).toEqual(['a1', 'c1 b1 a2', 4, 1]);
		tail[why] = false;
		tail.release();
		expect([keys(tail.traces), tail.held.length, tail.listed]).toEqual(['c1 b1 a2', 0, 3]);
	});

	it('keeps no more however long it runs', () => {
		const tail = new Tail();
		for (let look = 0; look < 3_000; look += 1) {
			tail.isPaused = look % 100 > 50;
			if (!tail.isPaused) tail.release();
			tail.take(answer(String(look), [trace(`${look}`)]), look * 500);
		}
		expect(tail.traces.length).toBeLessThanOrEqual(KEPT_MAX);
		expect(tail.held.length).toBeLessThanOrEqual(KEPT_MAX);
	});
});
