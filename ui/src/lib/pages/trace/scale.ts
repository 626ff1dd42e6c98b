import type { TimeWindow } from '$lib/address/pages';

/** Zooming in stops here: a hundred nanoseconds across the screen. */
export const WINDOW_NANOS_MIN = 100;
/** Or here, in so long a trace that its times are too coarse to tell a hundred nanoseconds apart. */
const WINDOW_SHARE_MIN = 2 ** -40;

/** Where a time lies in the window: 0 at its left edge, 1 at its right. */
export function fractionOf(window: TimeWindow, nanos: number): number {
	return (nanos - window.from) / (window.to - window.from);
}

/** The time at a fraction of the window. */
export function timeAt(window: TimeWindow, fraction: number): number {
	return window.from + fraction * (window.to - window.from);
}

/** A bar clipped to the window, in per cent; null when no part of it is inside. */
export function barExtent(
	window: TimeWindow,
	start: number,
	duration: number
): { left: number; width: number } | null {
	const end = start + duration;
	if (end < window.from || start > window.to) return null;
	const left = Math.max(0, fractionOf(window, start));
	const right = Math.min(1, fractionOf(window, end));
	return { left: left * 100, width: Math.max(0, right - left) * 100 };
}

/** A window inside [0, total], at least WINDOW_NANOS_MIN wide, keeping its width where it can. */
export function clampWindow(window: TimeWindow, totalNanos: number): TimeWindow {
	const total = Math.max(totalNanos, 1);
	// A window that is none, such as one too far off for a number, is the whole.
	if (!Number.isFinite(window.from) || !Number.isFinite(window.to)) return { from: 0, to: total };
	const smallest = Math.min(Math.max(WINDOW_NANOS_MIN, total * WINDOW_SHARE_MIN), total);
	const width = Math.min(total, Math.max(smallest, Math.abs(window.to - window.from)));
	const low = Math.min(window.from, window.to);
	const from = Math.min(Math.max(0, low), total - width);
	return { from, to: from + width };
}

/** Zooms by a factor (< 1 is in) around a fraction of the window that stays where it is. */
export function zoomAround(window: TimeWindow, factor: number, fraction: number, totalNanos: number): TimeWindow {
	const still = timeAt(window, fraction);
	const width = (window.to - window.from) * factor;
	const from = still - width * fraction;
	if (width >= totalNanos) return { from: 0, to: Math.max(totalNanos, 1) };
	return clampWindow({ from, to: from + width }, totalNanos);
}

export function pan(window: TimeWindow, deltaNanos: number, totalNanos: number): TimeWindow {
	return clampWindow({ from: window.from + deltaNanos, to: window.to + deltaNanos }, totalNanos);
}

export interface Ticks {
	step: number;
	values: number[];
}

/** Round times (1, 2, 5 times a power of ten) inside the window, at most `countMax` of them, each once. */
export function ticks(window: TimeWindow, countMax: number): Ticks {
	const width = window.to - window.from;
	if (!(width > 0 && width < Infinity)) return { step: 1, values: [] };
	const rough = width / Math.max(1, countMax);
	const power = 10 ** Math.floor(Math.log10(rough));
	const step = [1, 2, 5, 10].map((multiple) => multiple * power).find((size) => size >= rough) ?? power * 10;
	// Far from zero the sums of two ticks may round to one time.
	const values = new Set<number>();
	const first = Math.ceil(window.from / step - 1e-9);
	const last = Math.floor(window.to / step + 1e-9);
	const count = Math.min(last - first + 1, 2 * Math.max(1, countMax));
	for (let nth = 0; nth < count; nth += 1) values.add((first + nth) * step + 0);
	return { step, values: [...values] };
}
