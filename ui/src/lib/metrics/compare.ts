/** The answer of `compare()`: how often each value of each attribute occurs in the selection and in the rest. */
import type { Attribute, Series } from '$lib/api/types';
import { labelValue } from '$lib/metrics/series';
import { chanceOf, corrected } from './chance';

export interface ValueShare {
	value: Attribute;
	text: string;
	/** Shares of all spans of the side, 0 to 1: an attribute that few spans have is no great difference. */
	selection: number;
	baseline: number;
	selectionCount: number;
	baselineCount: number;
	/** How likely such a difference is if both sides are alike, corrected for how many values were compared. */
	chance: number;
}

export interface Difference {
	/** The printed field, as in `by()`. */
	field: string;
	/** Fields whose values are on as many spans of both sides, one for one: most likely the same under another name. */
	alsoAs: string[];
	/** The largest difference of one value's shares; what the list is sorted by. */
	difference: number;
	/** Of the value of which it is the least likely. */
	chance: number;
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
		// Several tenants answer each for itself.
		if (match[2]) side.total = (side.total ?? 0) + count;
		else {
			const key = `${attribute.type} ${labelValue(attribute)}`;
			side.counts.set(key, { value: attribute, count: count + (side.counts.get(key)?.count ?? 0) });
		}
	}
	const totals = (side: keyof Sides) => Math.max(0, ...[...fields.values()].map((sides) => totalOf(sides[side])));
	const [selectionTotal, baselineTotal] = [totals('selection'), totals('baseline')];
	const all = [...fields].map(([field, sides]) => differenceOf(field, sides, selectionTotal, baselineTotal));
	all.sort((a, b) => b.difference - a.difference || (a.field < b.field ? -1 : 1));
	const differences = merged(all);
	const values = differences.flatMap((difference) => difference.values);
	corrected(values.map(({ chance }) => chance)).forEach((chance, index) => (values[index]!.chance = chance));
	for (const difference of differences) difference.chance = Math.min(1, ...difference.values.map(({ chance }) => chance));
	return { differences, selectionTotal, baselineTotal };
}

/** Below half a per cent the bars are equal to the eye. */
const DIFFERENCE_MIN = 0.005;
/** Among what is shown as differing, at most so large a share does not. */
const CHANCE_MAX = 0.01;

/** What differs, what may do so by chance, and what is alike. */
export function differing({ differences }: Comparison): Record<'differing' | 'unsure' | 'alike', Difference[]> {
	const unlike = differences.filter((item) => item.difference >= DIFFERENCE_MIN);
	return {
		differing: unlike.filter((item) => item.chance <= CHANCE_MAX),
		unsure: unlike.filter((item) => item.chance > CHANCE_MAX),
		alike: differences.filter((item) => item.difference < DIFFERENCE_MIN)
	};
}

/** With fewer spans than these, equal counts are chance. */
const SPANS_TO_MERGE = 10;

/** What always goes together is one. */
function merged(differences: Difference[]): Difference[] {
	const byCounts = new Map<string, Difference>();
	return differences.filter((difference) => {
		const spans = difference.values.reduce((sum, value) => sum + value.selectionCount + value.baselineCount, 0);
		if (spans < SPANS_TO_MERGE) return true;
		const counts = difference.values.map(({ selectionCount, baselineCount }) => `${selectionCount} ${baselineCount}`);
		const key = counts.sort().join();
		const first = byCounts.get(key);
		if (first) first.alsoAs.push(difference.field);
		else byCounts.set(key, difference);
		return !first;
	});
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
			baselineCount,
			chance: chanceOf(selectionCount, selectionTotal, baselineCount, baselineTotal)
		};
	});
	const gap = (share: ValueShare) => Math.abs(share.selection - share.baseline);
	values.sort((a, b) => gap(b) - gap(a) || b.selection - a.selection || (a.text < b.text ? -1 : 1));
	return { field, alsoAs: [], difference: values[0] ? gap(values[0]) : 0, chance: 1, values };
}
