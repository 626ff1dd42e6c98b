import { describe, expect, it } from 'vitest';
import type { TraceSummary } from '$lib/api/types';
import { sortTraces } from './sort';

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
