import type { CompactTrace } from '$lib/api/types';

/** A parent that its children name but the trace does not hold. */
export const MISSING_PARENT = -2;
export const NO_PARENT = -1;

/**
 * The tree of one trace in flat arrays. Nodes 0..spanCount-1 are the returned spans, in the server's order; the nodes
 * after them stand for missing parents, one for each distinct missing id, so that orphans have a place to hang.
 */
export interface TraceTree {
	spanCount: number;
	nodeCount: number;
	/** Node ids in pre-order; position p in this array is the row of a fully expanded tree. */
	order: Int32Array;
	/** Position of each node in `order`. */
	position: Int32Array;
	/** One past the last position of the node's subtree. */
	subtreeEnd: Int32Array;
	parent: Int32Array;
	depth: Int32Array;
	childCount: Int32Array;
	/** Nanoseconds after the start of the trace. */
	start: Float64Array;
	duration: Float64Array;
	/** Place among its siblings, from 1. */
	siblingPosition: Int32Array;
	/** Number of nodes at the top level. */
	rootCount: number;
	/** Ids of the missing parents, for nodes spanCount, spanCount + 1, … */
	missingIds: string[];
	depthMax: number;
}

interface ChildLists {
	first: Int32Array;
	next: Int32Array;
	roots: number[];
}

/** Builds the tree in O(n log n); a broken parent link or a cycle makes a root, never a hang or a lost span. */
export function buildTree(trace: CompactTrace): TraceTree {
	const { spans } = trace;
	const spanCount = spans.id.length;
	const { parent, missingIds } = resolveParents(trace, spanCount);
	const nodeCount = spanCount + missingIds.length;
	const start = new Float64Array(nodeCount);
	const duration = new Float64Array(nodeCount);
	start.set(spans.start);
	duration.set(spans.duration);
	measurePlaceholders(parent, start, duration, spanCount, nodeCount);

	const tree: TraceTree = {
		spanCount,
		nodeCount,
		order: new Int32Array(nodeCount),
		position: new Int32Array(nodeCount).fill(-1),
		subtreeEnd: new Int32Array(nodeCount),
		parent,
		depth: new Int32Array(nodeCount),
		childCount: new Int32Array(nodeCount),
		start,
		duration,
		siblingPosition: new Int32Array(nodeCount),
		rootCount: 0,
		missingIds,
		depthMax: 0
	};
	walk(tree, childLists(tree));
	return tree;
}

function resolveParents(trace: CompactTrace, spanCount: number): { parent: Int32Array; missingIds: string[] } {
	const { spans } = trace;
	const missingNodeById = new Map<string, number>();
	const missingIds: string[] = [];
	const resolved = new Int32Array(spanCount);
	for (let span = 0; span < spanCount; span += 1) {
		const given = spans.parent[span] ?? NO_PARENT;
		if (given === MISSING_PARENT) {
			const id = spans.parentId?.[span] ?? '';
			let node = missingNodeById.get(id);
			if (node === undefined) {
				node = spanCount + missingIds.length;
				missingNodeById.set(id, node);
				missingIds.push(id);
			}
			resolved[span] = node;
		} else {
			resolved[span] = given >= 0 && given < spanCount && given !== span ? given : NO_PARENT;
		}
	}
	const parent = new Int32Array(spanCount + missingIds.length).fill(NO_PARENT);
	parent.set(resolved);
	return { parent, missingIds };
}

/** A placeholder covers the time of the children it stands over. */
function measurePlaceholders(
	parent: Int32Array,
	start: Float64Array,
	duration: Float64Array,
	spanCount: number,
	nodeCount: number
): void {
	const end = new Float64Array(nodeCount).fill(-Infinity);
	start.fill(Infinity, spanCount);
	for (let span = 0; span < spanCount; span += 1) {
		const node = parent[span]!;
		if (node < spanCount) continue;
		start[node] = Math.min(start[node]!, start[span]!);
		end[node] = Math.max(end[node]!, start[span]! + duration[span]!);
	}
	for (let node = spanCount; node < nodeCount; node += 1) duration[node] = end[node]! - start[node]!;
}

function childLists(tree: TraceTree): ChildLists {
	const { nodeCount, parent, childCount, start } = tree;
	const first = new Int32Array(nodeCount).fill(-1);
	const next = new Int32Array(nodeCount).fill(-1);
	const roots: number[] = [];
	// Backwards, so that each list comes out in the server's order (by start).
	for (let node = nodeCount - 1; node >= 0; node -= 1) {
		const above = parent[node]!;
		if (above === NO_PARENT) {
			roots.push(node);
			continue;
		}
		next[node] = first[above]!;
		first[above] = node;
		childCount[above] = childCount[above]! + 1;
	}
	roots.reverse();
	roots.sort((a, b) => start[a]! - start[b]! || a - b);
	return { first, next, roots };
}

function walk(tree: TraceTree, lists: ChildLists): void {
	const { nodeCount, position, parent, childCount } = tree;
	let filled = 0;
	for (const root of lists.roots) {
		tree.rootCount += 1;
		filled = walkFrom(root, filled, tree, lists);
	}
	// Whatever no root reaches hangs in a cycle: cut it where we meet it first.
	for (let node = 0; node < nodeCount && filled < nodeCount; node += 1) {
		if (position[node] !== -1) continue;
		const above = parent[node]!;
		childCount[above] = childCount[above]! - 1;
		parent[node] = NO_PARENT;
		tree.rootCount += 1;
		filled = walkFrom(node, filled, tree, lists);
	}
}

function walkFrom(root: number, filledBefore: number, tree: TraceTree, lists: ChildLists): number {
	const { order, position, subtreeEnd, depth, siblingPosition } = tree;
	let filled = filledBefore;
	const place = (node: number, level: number, nth: number) => {
		order[filled] = node;
		position[node] = filled;
		depth[node] = level;
		siblingPosition[node] = nth;
		if (level > tree.depthMax) tree.depthMax = level;
		filled += 1;
	};
	place(root, 0, tree.rootCount);
	const path = [root];
	const cursor = [lists.first[root]!];
	const nth = [0];
	while (path.length > 0) {
		const top = path.length - 1;
		const child = cursor[top]!;
		if (child === -1) {
			subtreeEnd[path[top]!] = filled;
			path.pop();
			cursor.pop();
			nth.pop();
			continue;
		}
		cursor[top] = lists.next[child]!;
		if (position[child] !== -1) continue;
		nth[top] = nth[top]! + 1;
		place(child, path.length, nth[top]!);
		path.push(child);
		cursor.push(lists.first[child]!);
		nth.push(0);
	}
	return filled;
}

/** True for a node that stands for a missing parent. */
export function isPlaceholder(tree: TraceTree, node: number): boolean {
	return node >= tree.spanCount;
}

/** How many spans hang below the node. */
export function descendantCount(tree: TraceTree, node: number): number {
	return tree.subtreeEnd[node]! - tree.position[node]! - 1;
}

/** The children of a node, in order. */
export function childrenOf(tree: TraceTree, node: number): number[] {
	const children: number[] = [];
	const end = tree.subtreeEnd[node]!;
	for (let at = tree.position[node]! + 1; at < end; ) {
		const child = tree.order[at]!;
		children.push(child);
		at = tree.subtreeEnd[child]!;
	}
	return children;
}

/** Time of the span not covered by any child, in nanoseconds: the union of the children is taken, clipped to the span. */
export function selfTime(tree: TraceTree, node: number): number {
	const from = tree.start[node]!;
	const to = from + tree.duration[node]!;
	const intervals = childrenOf(tree, node)
		.map((child): [number, number] => [
			Math.max(from, tree.start[child]!),
			Math.min(to, tree.start[child]! + tree.duration[child]!)
		])
		.filter(([begin, end]) => end > begin)
		.sort((a, b) => a[0] - b[0]);
	let covered = 0;
	let reached = from;
	for (const [begin, end] of intervals) {
		if (end <= reached) continue;
		covered += end - Math.max(begin, reached);
		reached = end;
	}
	return to - from - covered;
}
