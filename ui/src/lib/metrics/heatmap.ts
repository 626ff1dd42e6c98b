/** The answer of `histogram_over_time()` as a grid: a column for each step, a row for each bucket. */
import type { Series } from '$lib/api/types';

export interface Heatmap {
	/** Upper bounds of the buckets, lowest first, each double the one before. */
	bounds: number[];
	steps: number;
	/** `counts[row * steps + step]`. */
	counts: Float64Array;
	max: number;
	total: number;
	/** Buckets above those, which are not shown. */
	bucketsCut: number;
}

/** Between the lowest and the highest bucket at most so many lie; a wilder answer is cut at the top. */
const BUCKETS_MAX = 64;

/** Series of several groups are added up: a heatmap has one colour. */
export function heatmapOf(series: Series[], steps: number): Heatmap {
	const byBound = new Map<number, Float64Array>();
	for (const { labels, values } of series) {
		const bound = Number(labels.find((label) => label.key === '__bucket')?.value);
		if (!Number.isFinite(bound)) continue;
		const row = byBound.get(bound) ?? new Float64Array(steps);
		byBound.set(bound, row);
		values.forEach((value, step) => step < steps && (row[step]! += value ?? 0));
	}
	const bounds = ladder([...byBound.keys()].sort((a, b) => a - b));
	const counts = new Float64Array(bounds.length * steps);
	for (const [bound, row] of byBound) {
		const at = bounds.findIndex((step) => step >= bound * 0.999);
		if (at !== -1) row.forEach((count, step) => (counts[at * steps + step]! += count));
	}
	const max = counts.reduce((high, count) => Math.max(high, count), 0);
	const bucketsCut = [...byBound.keys()].filter((bound) => bound * 0.999 > (bounds.at(-1) ?? Infinity)).length;
	return { bounds, steps, counts, max, total: counts.reduce((sum, count) => sum + count, 0), bucketsCut };
}

/** Buckets without spans are not in the answer; without them the picture would skip whole octaves. */
function ladder(known: number[]): number[] {
	const bounds: number[] = [];
	for (const bound of known) {
		let next = bounds.length > 0 ? bounds.at(-1)! * 2 : bound;
		while (next > 0 && next < bound * 0.999 && bounds.length < BUCKETS_MAX) {
			bounds.push(next);
			next *= 2;
		}
		if (bounds.length < BUCKETS_MAX) bounds.push(bound);
	}
	return bounds;
}
