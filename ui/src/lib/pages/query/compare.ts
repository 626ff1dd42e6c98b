/** The answer of `compare()`: how often each value of each attribute occurs in the selection and in the rest. */
import type { Attribute, Series } from '$lib/api/types';
import { labelValue } from './series';

export interface ValueShare {
	value: Attribute;
	text: string;
	/** Shares of all spans of the side, 0 to 1: an attribute that few spans have is no great difference. */
	selection: number;
	baseline: number;
	selectionCount: number;
	baselineCount: number;
}

export interface Difference {
	/** The printed field, as in `by()`. */
	field: string;
	/** The largest difference of one value's shares; what the list is sorted by. */
	difference: number;
	values: ValueShare[];
}

export interface Comparison {
	/** Largest difference first. */
	differences: Difference[];
	/** Most spans that any one attribute was found on: all of them, if one is on every span. */
	selectionTotal: number;
	baselineTotal: number;
}

interface Side {
	total: number | null;
	counts: Map<string, { value: Attribute; count: number }>;
}

type Sides = Record<'selection' | 'baseline', Side>;

export function compareOf(series: Series[]): Comparison {
	const fields = new Map<string, Sides>();
	for (const { labels, values } of series) {
		const meta = labels.find((label) => label.key === '__meta_type');
		const attribute = labels.find((label) => label !== meta);
		const match = /^(selection|baseline)(_total)?$/.exec(String(meta?.value));
		if (!attribute || !match) continue;
		const sides = fields.get(attribute.key) ?? { selection: emptySide(), baseline: emptySide() };
		fields.set(attribute.key, sides);
		const side = sides[match[1] as keyof Sides];
		const count = values.reduce<number>((sum, value) => sum + (value ?? 0), 0);
		if (match[2]) side.total = count;
		else side.counts.set(`${attribute.type} ${labelValue(attribute)}`, { value: attribute, count });
	}
	const totals = (side: keyof Sides) => Math.max(0, ...[...fields.values()].map((sides) => totalOf(sides[side])));
	const [selectionTotal, baselineTotal] = [totals('selection'), totals('baseline')];
	const differences = [...fields].map(([field, sides]) => differenceOf(field, sides, selectionTotal, baselineTotal));
	differences.sort((a, b) => b.difference - a.difference || (a.field < b.field ? -1 : 1));
	return { differences, selectionTotal, baselineTotal };
}

function emptySide(): Side {
	return { total: null, counts: new Map() };
}

/** The server names only the most frequent values, but the total of all. */
function totalOf(side: Side): number {
	return side.total ?? [...side.counts.values()].reduce((sum, { count }) => sum + count, 0);
}

function differenceOf(
	field: string,
	{ selection, baseline }: Sides,
	selectionTotal: number,
	baselineTotal: number
): Difference {
	const keys = new Set([...selection.counts.keys(), ...baseline.counts.keys()]);
	const values = [...keys].map((key): ValueShare => {
		const [inside, outside] = [selection.counts.get(key), baseline.counts.get(key)];
		const value = (inside ?? outside)!.value;
		const [selectionCount, baselineCount] = [inside?.count ?? 0, outside?.count ?? 0];
		return {
			value,
			text: labelValue(value),
			selection: selectionTotal > 0 ? selectionCount / selectionTotal : 0,
			baseline: baselineTotal > 0 ? baselineCount / baselineTotal : 0,
			selectionCount,
			baselineCount
		};
	});
	const gap = (share: ValueShare) => Math.abs(share.selection - share.baseline);
	values.sort((a, b) => gap(b) - gap(a) || b.selection - a.selection || (a.text < b.text ? -1 : 1));
	return { field, difference: values[0] ? gap(values[0]) : 0, values };
}

/** The condition that a value stands for, as TraceQL: strings in quotes, the words of statuses and kinds without. */
export function conditionOf(field: string, value: Attribute): string {
	if (value.type === 'empty' || value.value === null) return `${field} = nil`;
	const isWord = /^(span:)?(status|kind)$/.test(field);
	if (isWord || value.type === 'int' || value.type === 'double' || value.type === 'bool')
		return `${field} = ${String(value.value)}`;
	return `${field} = ${JSON.stringify(String(value.value))}`;
}
