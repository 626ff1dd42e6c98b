/** Places values along an axis of pixels, and reads places back. */
export interface Scale {
	at(value: number): number;
	value(pixel: number): number;
}

export function linear(low: number, high: number, from: number, to: number): Scale {
	return {
		at: (value) => from + ((value - low) / (high - low)) * (to - from),
		value: (pixel) => low + ((pixel - from) / (to - from)) * (high - low)
	};
}

/** Both ends above zero; what is less than one stands at one. */
export function logarithmic(low: number, high: number, from: number, to: number): Scale {
	const { at, value } = linear(Math.log(low), Math.log(high), from, to);
	return { at: (given) => at(Math.log(Math.max(given, 1))), value: (pixel) => Math.exp(value(pixel)) };
}

export interface Extent {
	low: number;
	high: number;
}

/** From the least to the greatest; null of nothing. */
export function extentOf(values: number[]): Extent | null {
	if (values.length === 0) return null;
	return { low: values.reduce((low, value) => Math.min(low, value)), high: values.reduce((high, value) => Math.max(high, value)) };
}

/** How strongly a cell of a heatmap is coloured, 0 to 1: the square root, so that few still show beside many. */
export function strength(count: number, max: number): number {
	return count <= 0 || max <= 0 ? 0 : Math.max(0.08, Math.sqrt(count / max));
}

const WEEK_MILLIS = 604_800e3;
const TIME_STEPS_MILLIS = [
	1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 10e3, 15e3, 30e3, 60e3, 120e3, 300e3, 600e3, 900e3, 1800e3,
	3600e3, 7200e3, 10_800e3, 21_600e3, 43_200e3, 86_400e3, 172_800e3, WEEK_MILLIS
];

const offsetMillis = (millis: number) => new Date(millis).getTimezoneOffset() * 60_000;

/** Times that are round on a local clock, also where that clock is put forward or back between them. */
export function timeTicks({ low, high }: Extent, countMax: number): { step: number; values: number[] } {
	const rough = (high - low) / Math.max(1, countMax);
	const step = TIME_STEPS_MILLIS.find((size) => size >= rough) ?? Math.ceil(rough / WEEK_MILLIS) * WEEK_MILLIS;
	const values = new Set<number>();
	const first = Math.floor((low - offsetMillis(low)) / step);
	const last = Math.ceil((high - offsetMillis(high)) / step);
	for (let index = first; index <= last; index += 1) {
		const near = index * step + offsetMillis(low);
		const tick = index * step + offsetMillis(near);
		if (tick >= low && tick <= high) values.add(tick);
	}
	return { step, values: [...values] };
}

/** Beyond a minute, durations are round in minutes, hours and days. */
const LONG_TICKS = [60e9, 600e9, 3600e9, 36_000e9, 86_400e9, 864_000e9];

/** Powers of ten inside a logarithmic axis of nanoseconds; parts of decades (1, 3, 10) when there is less than two of them. */
export function durationTicks({ low, high }: Extent): number[] {
	const decades = Math.log10(high / low);
	const multiples = decades < 1 ? [1, 2, 5] : decades < 2.2 ? [1, 3] : [1];
	const values: number[] = [];
	for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power += 1) {
		values.push(...multiples.map((multiple) => multiple * 10 ** power).filter((value) => value < LONG_TICKS[0]!));
	}
	return [...values, ...LONG_TICKS].filter((value) => value >= low && value <= high);
}

/** At most so many round numbers above zero up to `high`: whole ones, as there is no half of a thing that is counted. */
export function countTicks(high: number, countMax: number): number[] {
	if (high < 1) return [];
	const rough = high / countMax;
	const power = 10 ** Math.floor(Math.log10(rough));
	const step = Math.max(1, power * ([1, 2, 5].find((multiple) => multiple * power >= rough) ?? 10));
	return Array.from({ length: Math.floor(high / step) }, (_, index) => (index + 1) * step);
}
