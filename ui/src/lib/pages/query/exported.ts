/** What a query gave, as columns to be taken away. Charts have their own. */
import type { QueryState } from '$lib/address/pages';
import type { TraceSummary } from '$lib/api/types';
import type { Column } from '$lib/chart/columns';
import { formatUtc } from '$lib/format';
import { compareOf } from '$lib/metrics/compare';
import { comparedColumns } from '$lib/metrics/comparedColumns';
import { rowsOf } from '$lib/metrics/series';
import { traceColumns } from '$lib/traces/columns';
import type { QueryResult } from './question';
import { fieldValue, spanTable } from './spans';

export interface Exported {
	/** As the name of the file says. */
	title: string;
	columns: () => Column[];
}

export function exported({ kind, answer }: QueryResult, tab: QueryState['tab']): Exported | null {
	if (kind === 'spans') {
		if (tab === 'spans') return { title: 'spans', columns: () => spanColumns(answer.traces) };
		return { title: 'traces', columns: () => traceColumns(answer.traces) };
	}
	if (answer.shape === 'comparison') return { title: 'comparison', columns: () => comparedColumns(compareOf(answer.series)) };
	if (answer.shape === 'histogram' || answer.steps > 1) return null;
	const rows = () => rowsOf(answer.series);
	return {
		title: 'values',
		columns: () => [
			{ name: 'series', values: rows().map(({ label }) => label) },
			{ name: 'value', values: rows().map(({ last }) => last) }
		]
	};
}

/** All of them, with every field, whatever the page has room for. */
export function spanColumns(traces: TraceSummary[]): Column[] {
	const table = spanTable(traces, Infinity);
	const rows = table.groups.flatMap(({ title, rows }) => rows.map((row) => ({ title, ...row })));
	const column = (name: string, value: (row: (typeof rows)[number]) => string | number): Column => ({ name, values: rows.map(value) });
	return [
		column('trace', ({ traceId }) => traceId),
		column('span', ({ span }) => span.spanId),
		column('started', ({ span }) => formatUtc(span.startTimeUnixNano)),
		column('service', ({ span }) => span.serviceName),
		column('name', ({ span }) => span.name),
		column('target', ({ span }) => span.target ?? ''),
		column('duration_ns', ({ span }) => span.durationNanos),
		column('status', ({ span }) => span.status),
		...(table.groups.some(({ title }) => title !== '') ? [column('group', ({ title }) => title)] : []),
		...table.columns.map((field) => column(field, ({ span }) => fieldValue(span.fields, field)))
	];
}
