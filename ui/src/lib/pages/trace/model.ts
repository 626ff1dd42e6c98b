import type { CompactTrace } from '$lib/api/types';
import { serviceColourIndex } from '$lib/serviceColour';
import { buildTree, isPlaceholder, type TraceTree } from './tree';

/** Everything the trace page reads of one trace; built once, never changed. */
export interface TraceModel {
	trace: CompactTrace;
	tree: TraceTree;
	/** Width of the whole picture in nanoseconds: the trace's duration, at least one. */
	totalNanos: number;
	/** `--service-N` index per service. */
	serviceColours: number[];
	/** Per service: its spans and errors, most spans first. */
	serviceShares: { index: number; name: string; spanCount: number; errorCount: number }[];
	spanIndexById: Map<string, number>;
	/** Ids that several spans have. */
	sharedIds: Set<string>;
	/** How many spans with status error lie before each position of the tree; one entry more than nodes. */
	errorsBefore: Int32Array;
}

export function buildModel(trace: CompactTrace): TraceModel {
	const tree = buildTree(trace);
	const { spans } = trace;
	const spanCounts = new Int32Array(trace.services.length);
	const errorCounts = new Int32Array(trace.services.length);
	const spanIndexById = new Map<string, number>();
	const sharedIds = new Set<string>();
	let end = trace.durationNanos;
	for (let span = 0; span < tree.spanCount; span += 1) {
		const service = spans.service[span]!;
		spanCounts[service] = (spanCounts[service] ?? 0) + 1;
		if (spans.status[span] === 2) errorCounts[service] = (errorCounts[service] ?? 0) + 1;
		// Of several spans that share an id, the address means the first.
		const id = spans.id[span]!;
		if (spanIndexById.has(id)) sharedIds.add(id);
		else spanIndexById.set(id, span);
		end = Math.max(end, spans.start[span]! + spans.duration[span]!);
	}
	const serviceShares = trace.services
		.map((name, index) => ({
			index,
			name,
			spanCount: spanCounts[index]!,
			errorCount: errorCounts[index]!
		}))
		.filter((share) => share.spanCount > 0)
		.sort((a, b) => b.spanCount - a.spanCount || a.name.localeCompare(b.name));
	return {
		trace,
		tree,
		totalNanos: Math.max(1, end),
		serviceColours: trace.services.map(serviceColourIndex),
		serviceShares,
		spanIndexById,
		sharedIds,
		errorsBefore: countErrors(trace, tree)
	};
}

function countErrors(trace: CompactTrace, tree: TraceTree): Int32Array {
	const before = new Int32Array(tree.nodeCount + 1);
	for (let at = 0; at < tree.nodeCount; at += 1) {
		before[at + 1] = before[at]! + (trace.spans.status[tree.order[at]!] === 2 ? 1 : 0);
	}
	return before;
}

/** Spans with status error below a node, itself not counted. */
export function errorsBelow(model: TraceModel, node: number): number {
	const { tree, errorsBefore } = model;
	return errorsBefore[tree.subtreeEnd[node]!]! - errorsBefore[tree.position[node]! + 1]!;
}

/** The operation of a node, or what stands in for it. */
export function nodeName(model: TraceModel, node: number): string {
	if (isPlaceholder(model.tree, node)) return 'missing span';
	return model.trace.names[model.trace.spans.name[node]!] || '(unnamed)';
}

/** What a span is about beside its name: route or host, table, topic. */
export function nodeTarget(model: TraceModel, node: number): string {
	const { targets, spans } = model.trace;
	return targets?.[spans.target?.[node] ?? -1] ?? '';
}

export function nodeService(model: TraceModel, node: number): string {
	if (isPlaceholder(model.tree, node)) return '';
	return model.trace.services[model.trace.spans.service[node]!] || '(no service)';
}

/** What a row tells of a span beside its bar. */
export interface SpanMarks {
	threw: boolean;
	eventCount: number;
	linkCount: number;
}

/** Null when there is nothing to tell. */
export function spanMarks({ trace: { spans }, tree }: TraceModel, node: number): SpanMarks | null {
	if (isPlaceholder(tree, node)) return null;
	const [eventCount, linkCount] = [spans.events[node] ?? 0, spans.links[node] ?? 0];
	return eventCount > 0 || linkCount > 0 ? { threw: spans.exception[node] === 1, eventCount, linkCount } : null;
}
