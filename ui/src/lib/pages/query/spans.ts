/** The matching spans of an answer as one flat table, in groups where the query says `by()`. */
import type { Attribute, MatchedSpan, TraceSummary } from '$lib/api/types';
import { Keys } from '$lib/keys';
import { labelValue } from '$lib/metrics/series';

export interface SpanRow {
	/** Unlike any other of its table. */
	key: string;
	traceId: string;
	rootServiceName: string;
	span: MatchedSpan;
}

export interface SpanGroup {
	/** `name = GET /cart`, empty when the query does not group. */
	title: string;
	rows: SpanRow[];
	/** Spans that match in these groups, shown or not. */
	matched: number;
}

export interface SpanTableData {
	groups: SpanGroup[];
	/** The fields that spans carry beside the usual columns, and what their spansets were compared by, as they are met. */
	columns: string[];
	/** Fields that have no column, for there is no room. */
	columnsCut: number;
	shown: number;
	matched: number;
}

/** Fields with columns of their own. */
const USUAL = new Set([
	'name',
	'span:name',
	'duration',
	'span:duration',
	'status',
	'span:status',
	'resource.service.name',
	'trace:id',
	'span:id'
]);
/** More columns than these leave none readable. */
const COLUMNS_MAX = 8;

export function spanTable(traces: TraceSummary[], columnsMax = COLUMNS_MAX): SpanTableData {
	const groups = new Map<string, SpanGroup>();
	const columns = new Set<string>();
	const keys = new Keys();
	for (const trace of traces) {
		for (const set of trace.spansets) {
			const title = set.by.map((label) => `${label.key} = ${labelValue(label)}`).join(', ');
			const group = groups.get(title) ?? { title, rows: [], matched: 0 };
			groups.set(title, group);
			group.matched += set.matchedCount;
			for (const found of set.spans) {
				const span = { ...found, fields: [...set.aggregates, ...found.fields] };
				const key = keys.take(`${trace.traceId} ${span.spanId}`);
				group.rows.push({ key, traceId: trace.traceId, rootServiceName: trace.rootServiceName, span });
				for (const field of span.fields) if (!USUAL.has(field.key)) columns.add(field.key);
			}
		}
	}
	const all = [...groups.values()];
	// The largest group first; ties as they came, newest first.
	all.sort((a, b) => b.matched - a.matched);
	return {
		groups: all,
		columns: [...columns].slice(0, columnsMax),
		columnsCut: Math.max(0, columns.size - columnsMax),
		shown: all.reduce((sum, group) => sum + group.rows.length, 0),
		matched: all.reduce((sum, group) => sum + group.matched, 0)
	};
}

export function fieldValue(fields: Attribute[], key: string): string {
	const field = fields.find((item) => item.key === key);
	return field ? labelValue(field) : '';
}
