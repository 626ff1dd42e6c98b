/** The spans of a trace as columns, to be taken away. */
import { SPAN_KINDS } from '$lib/api/types';
import type { Column } from '$lib/chart/columns';
import { formatUtc } from '$lib/format';
import { nodeName, nodeService, nodeTarget, type TraceModel } from './model';
import { isPlaceholder } from './tree';

const STATUSES = ['unset', 'ok', 'error'];

/** In the order of the waterfall; parents that did not arrive are none of them. */
export function spanColumns(model: TraceModel): Column[] {
	const { trace, tree } = model;
	const { spans } = trace;
	const nodes = [...tree.order].filter((node) => !isPlaceholder(tree, node));
	const begin = BigInt(trace.startTimeUnixNano);
	const column = (name: string, value: (node: number) => string | number): Column => ({ name, values: nodes.map(value) });
	const parentOf = (node: number) => {
		const parent = spans.parent[node] ?? -1;
		return parent >= 0 ? (spans.id[parent] ?? '') : (spans.parentId?.[node] ?? '');
	};
	return [
		column('span', (node) => spans.id[node] ?? ''),
		column('parent', parentOf),
		column('depth', (node) => tree.depth[node]!),
		column('service', (node) => nodeService(model, node)),
		column('name', (node) => nodeName(model, node)),
		column('about', (node) => nodeTarget(model, node)),
		column('kind', (node) => SPAN_KINDS[spans.kind[node] ?? 0] ?? ''),
		column('status', (node) => STATUSES[spans.status[node] ?? 0] ?? ''),
		column('started', (node) => formatUtc(String(begin + BigInt(Math.round(spans.start[node] ?? 0))))),
		column('duration_ns', (node) => spans.duration[node] ?? 0)
	];
}
