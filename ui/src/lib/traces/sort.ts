import type { TraceSummary } from '$lib/api/types';
import { formatInteger, plural } from '$lib/format';

export const SORT_KEYS = ['start', 'root', 'duration', 'spans', 'errors'] as const;
export type SortKey = (typeof SORT_KEYS)[number];
export interface Sort {
	key: SortKey;
	descending: boolean;
}

export const NEWEST_FIRST: Sort = { key: 'start', descending: true };

/** What comes first in an order, as in `Newest 50 of 12,400 traces`; ascending, then descending. */
const FIRST: Record<SortKey, [string, string]> = {
	start: ['Oldest', 'Newest'],
	root: ['First', 'Last'],
	duration: ['Shortest', 'Longest'],
	spans: ['Smallest', 'Largest'],
	errors: ['Least failed', 'Most failed']
};

/** How many traces are listed, of how many; those that match were counted, all or `atLeast` so many, or were not. */
export function listedText(listed: number, matched: { traces: number; atLeast: boolean } | null, isCut: boolean, sort: Sort): string {
	if (!isCut && (matched === null || matched.traces <= listed)) return plural(listed, 'trace');
	const first = `${FIRST[sort.key][Number(sort.descending)]} ${formatInteger(listed)}`;
	if (matched === null) return `${first} traces`;
	return `${first} of ${matched.atLeast ? 'at least ' : ''}${plural(Math.max(matched.traces, listed), 'trace')}`;
}

function compareStart(a: TraceSummary, b: TraceSummary): number {
	// Decimal strings of one length compare like numbers; a longer one is later.
	const [left, right] = [a.startTimeUnixNano, b.startTimeUnixNano];
	if (left.length !== right.length) return left.length - right.length;
	return left < right ? -1 : left > right ? 1 : 0;
}

function compareBy(key: SortKey, a: TraceSummary, b: TraceSummary): number {
	switch (key) {
		case 'start':
			return compareStart(a, b);
		case 'root':
			return (
				a.rootServiceName.localeCompare(b.rootServiceName) || a.rootSpanName.localeCompare(b.rootSpanName)
			);
		case 'duration':
			return a.durationNanos - b.durationNanos;
		case 'spans':
			return a.spanCount - b.spanCount;
		case 'errors':
			return a.errorCount - b.errorCount;
	}
}

/** A sorted copy; ties go newest first, then by trace id, so that the order never wavers. */
export function sortTraces(traces: TraceSummary[], sort: Sort): TraceSummary[] {
	const sign = sort.descending ? -1 : 1;
	return [...traces].sort(
		(a, b) =>
			sign * compareBy(sort.key, a, b) ||
			compareStart(b, a) ||
			(a.traceId < b.traceId ? -1 : a.traceId > b.traceId ? 1 : 0)
	);
}
