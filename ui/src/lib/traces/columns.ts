/** A list of traces, to be taken away. */
import type { TraceSummary } from '$lib/api/types';
import type { Column } from '$lib/chart/columns';
import { formatUtc } from '$lib/format';

export function traceColumns(traces: TraceSummary[]): Column[] {
	const column = (name: string, value: (trace: TraceSummary) => string | number): Column => ({ name, values: traces.map(value) });
	return [
		column('trace', ({ traceId }) => traceId),
		column('started', ({ startTimeUnixNano }) => formatUtc(startTimeUnixNano)),
		column('service', ({ rootServiceName }) => rootServiceName),
		column('root', ({ rootSpanName }) => rootSpanName),
		column('target', ({ rootTarget }) => rootTarget ?? ''),
		column('duration_ns', ({ durationNanos }) => durationNanos),
		column('spans', ({ spanCount }) => spanCount),
		column('errors', ({ errorCount }) => errorCount),
		column('matches', ({ matchedCount }) => matchedCount),
		column('services', ({ services }) => services.map(({ name, spanCount }) => `${name} ${spanCount}`).join(', '))
	];
}
