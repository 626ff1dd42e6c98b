import type { Column } from '$lib/chart/columns';
import { differing, type Comparison, type ValueShare } from '$lib/metrics/compare';

/** What differs, a row for each value. */
export function comparedColumns(comparison: Comparison): Column[] {
	const shares = differing(comparison).differing.flatMap(({ field, values }) => values.map((share) => ({ field, share })));
	const column = (name: string, of: (share: ValueShare) => string | number) => ({ name, values: shares.map(({ share }) => of(share)) });
	return [
		{ name: 'attribute', values: shares.map(({ field }) => field) },
		column('value', ({ text }) => text),
		column('share of the part', ({ selection }) => selection),
		column('share of the rest', ({ baseline }) => baseline),
		column('spans of the part', ({ selectionCount }) => selectionCount),
		column('spans of the rest', ({ baselineCount }) => baselineCount),
		column('chance', ({ chance }) => chance)
	];
}
