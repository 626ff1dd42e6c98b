/** Whether spans of a trace may still be on their way. */
import type { TraceSummary } from '$lib/api/types';
import { nanosToMillis } from '$lib/format';

/** A root is sent when it ends, and exporters send in batches: so long after the newest span's end it is missing. */
const SETTLED_AFTER_MILLIS = 30_000;

export function isInProgress(
	{ startTimeUnixNano, durationNanos }: Pick<TraceSummary, 'startTimeUnixNano' | 'durationNanos'>,
	nowMillis: number
): boolean {
	return nowMillis - (nanosToMillis(startTimeUnixNano) + durationNanos / 1e6) < SETTLED_AFTER_MILLIS;
}
