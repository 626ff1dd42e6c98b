import { describe, expect, it } from 'vitest';
import type { TraceSummary } from '$lib/api/types';
import { isInProgress } from './progress';
import { listedText, sortTraces } from './sort';

function summary(part: Partial<TraceSummary>): TraceSummary {
	return {
		key: 'a',
		traceId: 'a',
		rootServiceName: 'gateway',
		rootSpanName: 'GET /',
		startTimeUnixNano: '1795340698000000000',
		durationNanos: 1e6,
		spanCount: 3,
		errorCount: 0,
		rootMissing: false,
		services: [],
		matchedCount: 0,
		spansets: [],
		...part
	};
}

describe('sorting', () => {
	const traces = [
		summary({ traceId: 'b', startTimeUnixNano: '1795340698000000001', durationNanos: 5 }),
		summary({ traceId: 'a', startTimeUnixNano: '1795340698000000001', durationNanos: 9 }),
		summary({ traceId: 'c', startTimeUnixNano: '999', durationNanos: 5, rootServiceName: 'cart' })
	];
	const order = (key: 'start' | 'duration' | 'root', descending: boolean) =>
		sortTraces(traces, { key, descending }).map((trace) => trace.traceId).join('');

	it('is whole and never wavers', () => {
		expect(order('start', true)).toBe('abc');
		expect(order('start', false)).toBe('cab');
		expect(order('duration', true)).toBe('abc');
		expect(order('duration', false)).toBe('bca');
		expect(order('root', false)).toBe('cab');
	});
});

describe('how many traces are listed', () => {
	const byDuration = { key: 'duration', descending: true } as const;
	it.each([
		[3, null, false, '3 traces'],
		[1, { traces: 1, atLeast: false }, false, '1 trace'],
		[50, null, true, 'Longest 50 traces'],
		[50, { traces: 12_400, atLeast: false }, true, 'Longest 50 of 12,400 traces'],
		[50, { traces: 12_400, atLeast: true }, true, 'Longest 50 of at least 12,400 traces'],
		// More arrived between the list and the count, or fewer are left.
		[50, { traces: 40, atLeast: false }, true, 'Longest 50 of 50 traces'],
		[3, { traces: 4, atLeast: false }, false, 'Longest 3 of 4 traces']
	])('%d of %o', (listed, matched, isCut, text) => expect(listedText(listed, matched, isCut, byDuration)).toBe(text));
});

describe('a trace without a root', () => {
	const trace = { startTimeUnixNano: '1795340698000000000', durationNanos: 5e9 };
	it.each([
		['is in progress while spans may arrive', 29_999, true],
		['is not, once they should have', 30_000, false],
		['is in progress if its clock is ahead of ours', -60_000, true]
	])('%s', (_, afterEnd, expected) => expect(isInProgress(trace, 1795340703000 + afterEnd)).toBe(expected));
});
