import { extentOf, type Extent } from './scale';
import type { Place } from './frame';

/** A column for each thing that a point says. */
export interface PointColumns {
	/** Milliseconds since the epoch. */
	times: number[];
	/** Nanoseconds; the axis is logarithmic. */
	durations: number[];
	/** How much there is of it, from 1. */
	sizes: number[];
	/** Those that stand out. */
	marked: boolean[];
}

export interface Point extends Place {
	index: number;
	radius: number;
}

/** The extents of the points with a little air, never empty. */
export function extentsOf({ times, durations }: PointColumns): { time: Extent; duration: Extent } {
	const time = extentOf(times) ?? { low: 0, high: 1 };
	const duration = extentOf(durations) ?? { low: 1.6e6, high: 1e9 / 1.6 };
	const air = Math.max((time.high - time.low) * 0.02, 0.5);
	return {
		time: { low: time.low - air, high: time.high + air },
		duration: { low: Math.max(1, duration.low) / 1.6, high: Math.min(Math.max(1, duration.high) * 1.6, Number.MAX_VALUE) }
	};
}

export const radiusOf = (size: number) => Math.min(9, 3 + Math.log10(Math.max(1, size)) * 1.4);

/** The point nearest to a place, if one lies within `reach` pixels of its rim. */
export function nearestPoint(points: Point[], { x, y }: Place, reach: number): Point | null {
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

/** The next point to the right or the left of a place, or the next above or below it; the first one from nowhere. */
export function nextPoint(points: Point[], from: Place | null, dx: number, dy: number): Point | null {
	const along = (place: Place) => (dx === 0 ? place.y * dy : place.x * dx);
	const beyond = from === null ? points : points.filter((point) => along(point) > along(from));
	return beyond.reduce<Point | null>((best, point) => (best === null || along(point) < along(best) ? point : best), null);
}
