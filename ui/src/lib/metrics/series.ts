/** Time series as they are listed, ranked and written. */
import type { Attribute, MetricsAnswer, Series } from '$lib/api/types';
import { formatCount, formatDuration } from '$lib/format';
import type { SeriesUnit } from '$lib/api/types';

/** More lines than this can't be told apart, and drawing them all would be slow. */
export const SERIES_DRAWN_MAX = 50;

export interface SeriesRow {
	/** Where the series stands in the answer; also its identity while the answer is shown. */
	index: number;
	label: string;
	/** Position among the lines that are drawn: the series with the largest averages, in the order of the answer. */
	line: number | null;
	last: number | null;
	min: number | null;
	max: number | null;
	avg: number | null;
}

export const LEGEND_KEYS = ['label', 'last', 'min', 'max', 'avg'] as const;
export type LegendKey = (typeof LEGEND_KEYS)[number];
export interface LegendSort {
	key: LegendKey;
	descending: boolean;
}

/** A label's value; what a span has not is nil. */
export function labelValue(label: Attribute): string {
	if (label.type === 'empty' || label.value === null) return 'nil';
	return typeof label.value === 'string' ? label.value : JSON.stringify(label.value);
}

/** Quantiles read `p95`; one plain label needs no name beside its value; several are written out. */
export function seriesLabel(labels: Attribute[]): string {
	if (labels.length === 0) return 'all spans';
	const quantile = labels.find((label) => label.key === 'p');
	const others = labels.filter((label) => label !== quantile);
	const parts = others.map((label) => (others.length === 1 ? labelValue(label) : `${label.key}=${labelValue(label)}`));
	if (quantile) parts.push(quantileName(Number(quantile.value)));
	return parts.join(' · ');
}

function quantileName(quantile: number): string {
	return Number.isFinite(quantile) ? `p${Number((quantile * 100).toPrecision(6))}` : 'p?';
}

export function rowsOf(series: Series[]): SeriesRow[] {
	const rows = series.map(({ labels, values }, index): SeriesRow => {
		const known = values.filter((value): value is number => value !== null && !Number.isNaN(value));
		return {
			index,
			label: seriesLabel(labels),
			line: null,
			last: values.findLast((value) => value !== null) ?? null,
			min: known.length > 0 ? known.reduce((low, value) => Math.min(low, value)) : null,
			max: known.length > 0 ? known.reduce((high, value) => Math.max(high, value)) : null,
			avg: known.length > 0 ? known.reduce((sum, value) => sum + value, 0) / known.length : null
		};
	});
	const drawn = sortRows(rows, { key: 'avg', descending: true }).slice(0, SERIES_DRAWN_MAX);
	drawn.sort((a, b) => a.index - b.index).forEach((row, line) => (row.line = line));
	return rows;
}

export function sortRows(rows: SeriesRow[], { key, descending }: LegendSort): SeriesRow[] {
	const sign = descending ? -1 : 1;
	return rows.toSorted((a, b) => {
		const [left, right] = [a[key], b[key]];
		// What has no value comes last, whichever way.
		if (left === null || right === null) return left === right ? a.index - b.index : left === null ? 1 : -1;
		if (typeof left === 'string')
			return sign * left.localeCompare(String(right), undefined, { numeric: true }) || a.index - b.index;
		return sign * (left - Number(right)) || a.index - b.index;
	});
}

/** The beginnings of the steps in seconds since the epoch, which is what uPlot counts in. */
export function stepSeconds(answer: MetricsAnswer): number[] {
	// Nanoseconds of today are beyond what a number holds exactly; milliseconds are not.
	const start = Number(BigInt(answer.startTimeUnixNano) / 1000n) / 1e6;
	return Array.from({ length: answer.steps }, (_, step) => start + (step * answer.stepNanos) / 1e9);
}

/** The same as text for other programs. */
export const isoTimes = (answer: MetricsAnswer) => stepSeconds(answer).map((seconds) => new Date(seconds * 1000).toISOString());

export function formatValue(value: number | null, unit: SeriesUnit): string {
	if (value === null || Number.isNaN(value)) return '–';
	if (!Number.isFinite(value)) return value > 0 ? '∞' : '-∞';
	if (unit === 'seconds') return formatDuration(value * 1e9);
	const text = formatPlain(value);
	return unit === 'perSecond' ? `${text}/s` : text;
}

function formatPlain(value: number): string {
	if (value < 0) return `-${formatPlain(-value)}`;
	if (value === 0) return '0';
	if (value >= 1000) return formatCount(value);
	if (value < 1e-6) return value.toExponential(1);
	return String(Number(value.toPrecision(3)));
}

/** A length of time in its largest whole unit: `30s`, `5m`, `1h`. */
export function formatStep(nanos: number): string {
	for (const [unit, size] of [
		['d', 86_400e9],
		['h', 3_600e9],
		['m', 60e9],
		['s', 1e9],
		['ms', 1e6]
	] as const) {
		if (nanos >= size && nanos % size === 0) return `${nanos / size}${unit}`;
	}
	return formatDuration(nanos);
}
