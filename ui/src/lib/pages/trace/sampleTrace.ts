import type { CompactTrace } from '$lib/api/types';

/** A trace for tests: one line per span, `id parent start duration [error]`; the parent is an index, -1 or -2:missingid. */
export function sampleTrace(lines: string[]): CompactTrace {
	const rows = lines.map((line) => line.split(' '));
	const column = (read: (row: string[]) => number) => rows.map(read);
	const zeros = rows.map(() => 0);
	const ends = rows.map((row) => Number(row[2]) + Number(row[3]));
	return {
		traceId: '0'.repeat(31) + '1',
		spanCount: rows.length,
		returned: rows.length,
		complete: true,
		partialReason: null,
		startTimeUnixNano: '1795340698000000000',
		durationNanos: Math.max(0, ...ends),
		rootServiceName: 'gateway',
		rootSpanName: 'GET /',
		errorCount: rows.filter((row) => row[4] === 'error').length,
		duplicates: 0,
		services: ['gateway'],
		names: ['GET /'],
		spans: {
			id: rows.map((row) => row[0]!),
			parent: column((row) => parseInt(row[1]!, 10)),
			parentId: rows.map((row) => row[1]!.split(':')[1] ?? ''),
			start: column((row) => Number(row[2])),
			duration: column((row) => Number(row[3])),
			service: zeros,
			name: zeros,
			kind: zeros,
			status: column((row) => (row[4] === 'error' ? 2 : 0)),
			events: zeros,
			links: zeros,
			exception: zeros
		}
	};
}

/** A trace of many spans, wide and deep. */
export function largeTrace(spanCount: number): CompactTrace {
	const lines = ['0 -1 0 1000000'];
	for (let span = 1; span < spanCount; span += 1) {
		const parent = span % 7 === 0 ? 0 : span - 1;
		lines.push(`${span.toString(16).padStart(16, '0')} ${parent} ${span} 10`);
	}
	return sampleTrace(lines);
}
