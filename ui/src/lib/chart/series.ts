import type { Place } from './frame';

/** Lines over one column of times, and marks that stand on or beside them. */
export interface SeriesColumns {
	/** Beginnings of the steps, since the epoch. */
	seconds: number[];
	lines: {
		label: string;
		/** The name of a colour token. */
		colour: string;
		/** Beyond the ring of colours, lines are dashed. */
		dashed: boolean;
		values: (number | null)[];
	}[];
	marks: {
		/** Position among the lines. */
		line: number;
		seconds: number;
		value: number;
	}[];
}

/** What is pointed at. */
export interface Hover {
	step: number;
	line: number | null;
	mark: number | null;
	place: Place;
}

/** As many values as the tip lists. */
const TIP_VALUES_MAX = 8;

/** The lines that the tip lists: largest first, the one pointed at before all. */
export function tipLines({ lines }: SeriesColumns, { step, line }: Hover, isShown: (line: number) => boolean) {
	const values = lines
		.map(({ values }, index) => ({ index, value: values[step] ?? null, isNear: index === line }))
		.filter(({ index, value }) => value !== null && isShown(index))
		.sort((a, b) => Number(b.isNear) - Number(a.isNear) || b.value! - a.value!);
	return { listed: values.slice(0, TIP_VALUES_MAX), more: Math.max(0, values.length - TIP_VALUES_MAX) };
}
