/** The answer of `histogram_over_time()` as a grid: a column for each step, a row for each bucket. */
import type { Series } from '$lib/api/types';

export interface Heatmap {
	/** Of each row, lowest first: above which values it holds, 0 if it holds all that are lower … */
	lows: number[];
	/** … and up to which. */
	bounds: number[];
	/** How many rows are an octave. */
	perOctave: number;
	steps: number;
	/** `counts[row * steps + step]`. */
	counts: Float64Array;
	max: number;
	total: number;
}

/** As fine as the server is asked to be: so many buckets for each power of two. */
export const BUCKETS_PER_OCTAVE = 4;
/** Of a wider range, neighbours are one row. */
const ROWS_MAX = 80;
/** What so few are below stands with the lowest row: the picture is of the others. */
const SHARE_BELOW = 0.01;

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
	const totals = [...byBound].map(([bound, row]) => ({ bound, total: sum(row) })).sort((a, b) => a.bound - b.bound);
	const total = sum(totals.map((each) => each.total));
	const { lows, bounds, perOctave } = rowsOf(totals, total);
	const counts = new Float64Array(bounds.length * steps);
	for (const [bound, row] of byBound) {
		const at = Math.max(0, bounds.findIndex((end) => bound <= end * NEARLY));
		row.forEach((count, step) => (counts[at * steps + step]! += count));
	}
	return { lows, bounds, perOctave, steps, counts, max: counts.reduce((high, count) => Math.max(high, count), 0), total };
}

const sum = (values: Iterable<number>) => [...values].reduce((all, value) => all + value, 0);

/** Bounds are powers of two that were multiplied and divided. */
const NEARLY = 1 + 1e-9;

/** Buckets without spans are not in the answer; without them the picture would skip whole octaves. */
function rowsOf(totals: { bound: number; total: number }[], total: number): Pick<Heatmap, 'lows' | 'bounds' | 'perOctave'> {
	let perOctave = BUCKETS_PER_OCTAVE;
	const positive = totals.filter(({ bound }) => bound > 0);
	if (positive.length === 0) {
		const alone = totals.length === 0 ? [] : [0];
		return { lows: alone, bounds: alone, perOctave };
	}
	let below = sum(totals.filter(({ bound }) => bound <= 0).map((each) => each.total));
	// What measures nothing is a row of its own, unless it is rare.
	const hasZero = below > total * SHARE_BELOW;
	const lowest = positive.findIndex((each) => (below += each.total) > total * SHARE_BELOW || hasZero);
	const [first, last] = [positive[Math.max(0, lowest)]!.bound, positive.at(-1)!.bound];
	const octaves = Math.log2(last) - Math.log2(first);
	while (perOctave > 1 / 64 && octaves * perOctave + 2 > ROWS_MAX) perOctave /= 2;
	const rows = Math.ceil(octaves * perOctave - 1e-6) + 1;
	// Counted from the top, which is the true one.
	const bounds = Array.from({ length: rows }, (_, row) => last * 2 ** ((row + 1 - rows) / perOctave));
	const isFirst = lowest <= 0 || hasZero;
	const lows = bounds.map((bound, row) => (row === 0 && !isFirst ? 0 : bound / 2 ** (1 / perOctave)));
	return hasZero ? { lows: [0, ...lows], bounds: [0, ...bounds], perOctave } : { lows, bounds, perOctave };
}

/** What the rows are called. Durations are whole nanoseconds, in seconds, and never negative. */
export function namesOf({ lows, bounds }: Heatmap, format: (bound: number) => string, isTime: boolean): string[] {
	return bounds.map((bound, row) => {
		if (bound === 0) return isTime ? format(0) : `${format(0)} or less`;
		if (lows[row] === 0) return `up to ${format(bound)}`;
		if (!isTime || bound >= SHORT_SECONDS) return `${format(lows[row]!)} to ${format(bound)}`;
		const [first, last] = [nanosUpTo(lows[row]!) + 1, nanosUpTo(bound)];
		if (first > last) return `between ${last} and ${first} ns`;
		return first === last ? `${first} ns` : `${first} to ${last} ns`;
	});
}

/** Below this the bounds lie between a few nanoseconds. */
const SHORT_SECONDS = 1e-7;

/** The most whole nanoseconds that are no more than a bound in seconds, which was rounded a few times. */
export const nanosUpTo = (bound: number) => Math.floor(bound * 1e9 * (1 + 1e-14));

/** Of times, what is said in seconds ends with ten; others go on in tens. */
const ROUND_SECONDS = [60, 600, 3_600, 36_000, 86_400, 864_000];

/** Round values, each with its place: so many rows above the lowest edge. */
export function ticksOf({ bounds, perOctave }: Heatmap, isTime: boolean): { at: number; value: number }[] {
	const zeros = bounds[0] === 0 ? 1 : 0;
	const first = bounds[zeros];
	const last = bounds.at(-1);
	if (first === undefined || last === undefined) return [];
	const place = (value: number) => zeros + 1 + perOctave * (Math.log2(value) - Math.log2(first));
	const powers = Array.from({ length: 617 }, (_, power) => Number(`1e${power - 308}`));
	const round = isTime ? [...powers.filter((value) => value <= 10), ...ROUND_SECONDS] : powers;
	return round.map((value) => ({ at: place(value), value })).filter(({ at }) => at >= zeros && at <= bounds.length + 1e-6);
}
