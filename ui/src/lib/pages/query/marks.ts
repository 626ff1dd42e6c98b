/** Exemplars as marks in a plot. */
import type { Exemplar, MetricsAnswer } from '$lib/api/types';
import { nanosToMillis } from '$lib/format';
import type { SeriesUnit } from '$lib/api/types';

export interface ExemplarMark {
	/** Position among the drawn series. */
	line: number;
	/** The series' place in the answer. */
	index: number;
	seconds: number;
	/** Where the mark stands on the axis. */
	value: number;
	exemplar: Exemplar;
}

/** A plot this wide has room for so many marks side by side; of those at one place the largest stays. */
const COLUMNS = 48;
const ROWS = 10;

export function marksOf(answer: MetricsAnswer, drawn: readonly number[], unit: SeriesUnit): ExemplarMark[] {
	const start = nanosToMillis(answer.startTimeUnixNano) / 1000;
	const length = (answer.steps * answer.stepNanos) / 1e9 || 1;
	const all = drawn.flatMap((index, position) => {
		const { exemplars, values } = answer.series[index]!;
		return exemplars.flatMap((exemplar): ExemplarMark[] => {
			const seconds = nanosToMillis(exemplar.timeUnixNano) / 1000;
			const step = Math.floor(((seconds - start) * 1e9) / answer.stepNanos);
			const mark = { line: position, index, exemplar };
			if (unit === 'seconds')
				return Number.isFinite(exemplar.value) ? [{ ...mark, seconds, value: exemplar.value }] : [];
			// Of a rate or a count the exemplar tells the duration, which has no place on this axis: it rides on the line.
			const value = values[step] ?? null;
			return value === null || !Number.isFinite(value) ? [] : [{ ...mark, seconds: start + (step * answer.stepNanos) / 1e9, value }];
		});
	});
	return thinned(all, start, length);
}

function thinned(marks: ExemplarMark[], start: number, length: number): ExemplarMark[] {
	const high = marks.reduce((most, mark) => Math.max(most, mark.value), 0) || 1;
	const byCell = new Map<string, ExemplarMark>();
	for (const mark of marks) {
		const cell = `${Math.floor(((mark.seconds - start) / length) * COLUMNS)} ${Math.min(ROWS - 1, Math.floor((mark.value / high) * ROWS))}`;
		const known = byCell.get(cell);
		if (!known || known.value < mark.value) byCell.set(cell, mark);
	}
	return [...byCell.values()].sort((a, b) => a.seconds - b.seconds);
}
