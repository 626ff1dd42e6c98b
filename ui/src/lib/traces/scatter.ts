import type { TraceSummary } from '$lib/api/types';
import { nanosToMillis } from '$lib/format';

/** Drawing area in CSS pixels, inside the axes. */
export interface Plot {
	left: number;
	top: number;
	width: number;
	height: number;
}

export interface Domain {
	fromMillis: number;
	toMillis: number;
	/** Nanoseconds, both ends above zero: the axis is logarithmic. */
	durationMin: number;
	durationMax: number;
}

export interface Point {
	traceId: string;
	x: number;
	y: number;
	radius: number;
	error: boolean;
}

/** The extent of the results with a little air, never empty. */
export function domainOf(traces: TraceSummary[]): Domain {
	let fromMillis = Infinity;
	let toMillis = -Infinity;
	let low = Infinity;
	let high = 0;
	for (const trace of traces) {
		const start = nanosToMillis(trace.startTimeUnixNano);
		const duration = Math.max(1, trace.durationNanos);
		fromMillis = Math.min(fromMillis, start);
		toMillis = Math.max(toMillis, start);
		low = Math.min(low, duration);
		high = Math.max(high, duration);
	}
	if (traces.length === 0) return { fromMillis: 0, toMillis: 1, durationMin: 1e6, durationMax: 1e9 };
	const air = Math.max((toMillis - fromMillis) * 0.02, 0.5);
	return {
		fromMillis: fromMillis - air,
		toMillis: toMillis + air,
		durationMin: low / 1.6,
		durationMax: Math.min(high * 1.6, Number.MAX_VALUE)
	};
}

export function xOf(domain: Domain, plot: Plot, millis: number): number {
	return plot.left + ((millis - domain.fromMillis) / (domain.toMillis - domain.fromMillis)) * plot.width;
}

export function yOf(domain: Domain, plot: Plot, nanos: number): number {
	const low = Math.log(domain.durationMin);
	const high = Math.log(domain.durationMax);
	const fraction = (Math.log(Math.max(nanos, 1)) - low) / (high - low);
	return plot.top + (1 - fraction) * plot.height;
}

export function millisAt(domain: Domain, plot: Plot, x: number): number {
	return domain.fromMillis + ((x - plot.left) / plot.width) * (domain.toMillis - domain.fromMillis);
}

export function durationAt(domain: Domain, plot: Plot, y: number): number {
	const low = Math.log(domain.durationMin);
	const high = Math.log(domain.durationMax);
	return Math.exp(low + (1 - (y - plot.top) / plot.height) * (high - low));
}

export function pointsOf(traces: TraceSummary[], domain: Domain, plot: Plot): Point[] {
	return traces.map((trace) => ({
		traceId: trace.traceId,
		x: xOf(domain, plot, nanosToMillis(trace.startTimeUnixNano)),
		y: yOf(domain, plot, trace.durationNanos),
		radius: Math.min(9, 3 + Math.log10(Math.max(1, trace.spanCount)) * 1.4),
		error: trace.errorCount > 0
	}));
}

/** The point nearest to a place, if one lies within `reach` pixels of its rim. */
export function nearestPoint(points: Point[], x: number, y: number, reach: number): Point | null {
	let best: Point | null = null;
	let bestDistance = reach;
	for (const point of points) {
		const distance = Math.hypot(point.x - x, point.y - y) - point.radius;
		if (distance <= bestDistance) {
			best = point;
			bestDistance = distance;
		}
	}
	return best;
}

/** Beyond a minute, durations are round in minutes, hours and days. */
const LONG_TICKS = [60e9, 600e9, 3600e9, 36_000e9, 86_400e9, 864_000e9];

/** Powers of ten inside the duration axis; halved decades (1, 3, 10) when there is less than two of them. */
export function durationTicks(domain: Domain): number[] {
	const decades = Math.log10(domain.durationMax / domain.durationMin);
	const multiples = decades < 1 ? [1, 2, 5] : decades < 2.2 ? [1, 3] : [1];
	const values: number[] = [];
	for (let power = Math.floor(Math.log10(domain.durationMin)); 10 ** power <= domain.durationMax; power += 1) {
		for (const multiple of multiples) {
			const value = multiple * 10 ** power;
			if (value >= domain.durationMin && value <= domain.durationMax && value < LONG_TICKS[0]!) values.push(value);
		}
	}
	return [...values, ...LONG_TICKS.filter((value) => value >= domain.durationMin && value <= domain.durationMax)];
}

const TIME_STEPS_MILLIS = [
	1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 10e3, 15e3, 30e3, 60e3, 120e3, 300e3, 600e3, 900e3, 1800e3,
	3600e3, 7200e3, 10_800e3, 21_600e3, 43_200e3, 86_400e3, 172_800e3, 604_800e3
];

/** Round local times inside the axis. */
export function timeTicks(domain: Domain, countMax: number): { step: number; values: number[] } {
	const rough = (domain.toMillis - domain.fromMillis) / Math.max(1, countMax);
	const step = TIME_STEPS_MILLIS.find((size) => size >= rough) ?? 604_800e3;
	const offset = new Date(domain.fromMillis).getTimezoneOffset() * 60_000;
	const values: number[] = [];
	const first = Math.ceil((domain.fromMillis - offset) / step);
	for (let index = first; index * step + offset <= domain.toMillis; index += 1) values.push(index * step + offset);
	return { step, values };
}
