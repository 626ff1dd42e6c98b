import { describe, expect, it } from 'vitest';
import type { TraceSummary } from '$lib/api/types';
import { domainOf, durationTicks, durationAt, millisAt, nearestPoint, pointsOf, timeTicks, xOf, yOf } from './scatter';
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

describe('scatter', () => {
	const plot = { left: 50, top: 10, width: 1000, height: 100 };
	const traces = [
		summary({ traceId: 'a', durationNanos: 1e6 }),
		summary({ traceId: 'b', durationNanos: 1e9, startTimeUnixNano: '1795340758000000000', errorCount: 1 })
	];
	const domain = domainOf(traces);

	it('keeps every point inside the plot', () => {
		for (const point of pointsOf(traces, domain, plot)) {
			expect(point.x).toBeGreaterThanOrEqual(plot.left);
			expect(point.x).toBeLessThanOrEqual(plot.left + plot.width);
			expect(point.y).toBeGreaterThanOrEqual(plot.top);
			expect(point.y).toBeLessThanOrEqual(plot.top + plot.height);
		}
		for (const lonely of [[], [traces[0]!]]) {
			const { fromMillis, toMillis, durationMin, durationMax } = domainOf(lonely);
			expect(toMillis).toBeGreaterThan(fromMillis);
			expect(durationMax).toBeGreaterThan(durationMin);
		}
	});

	it('reads places back', () => {
		expect(millisAt(domain, plot, xOf(domain, plot, 1795340700000))).toBeCloseTo(1795340700000, 0);
		expect(durationAt(domain, plot, yOf(domain, plot, 5e7))).toBeCloseTo(5e7, -2);
	});

	it('finds the point under the pointer, and none far off', () => {
		const points = pointsOf(traces, domain, plot);
		expect(nearestPoint(points, points[1]!.x + 6, points[1]!.y, 12)?.traceId).toBe('b');
		expect(nearestPoint(points, 500, 60, 12)).toBeNull();
	});

	it('puts a bearable number of ticks on the axes', () => {
		expect(durationTicks(domain)).toEqual([1e6, 1e7, 1e8, 1e9]);
		expect(durationTicks({ ...domain, durationMin: 1.1e6, durationMax: 4e6 })).toEqual([2e6]);
		expect(durationTicks({ ...domain, durationMin: 5e8, durationMax: 4e12 })).toEqual([1e9, 1e10, 6e10, 6e11, 3.6e12]);
		const { values } = timeTicks(domain, 8);
		expect(values.length).toBeGreaterThan(2);
		expect(values.length).toBeLessThanOrEqual(9);
	});
});
