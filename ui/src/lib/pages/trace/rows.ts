import { NO_PARENT, type TraceTree } from './tree';

/** The nodes on screen when some are collapsed (1 in `collapsed`), from top to bottom. */
export function visibleRows(tree: TraceTree, collapsed: Uint8Array): Int32Array {
	const rows = new Int32Array(tree.nodeCount);
	let count = 0;
	for (let at = 0; at < tree.nodeCount; ) {
		const node = tree.order[at]!;
		rows[count] = node;
		count += 1;
		at = collapsed[node] ? tree.subtreeEnd[node]! : at + 1;
	}
	return rows.subarray(0, count);
}

/** Collapses every node at `depth` or deeper that has children; 0 leaves the roots alone, Infinity opens all. */
export function collapseToDepth(tree: TraceTree, depth: number): Uint8Array {
	const collapsed = new Uint8Array(tree.nodeCount);
	for (let node = 0; node < tree.nodeCount; node += 1) {
		if (tree.childCount[node]! > 0 && tree.depth[node]! >= depth) collapsed[node] = 1;
	}
	return collapsed;
}

/** Opens every ancestor of a node; true when anything was closed. */
export function reveal(tree: TraceTree, collapsed: Uint8Array, node: number): boolean {
	let changed = false;
	for (let above = tree.parent[node]!; above !== NO_PARENT; above = tree.parent[above]!) {
		if (collapsed[above]) {
			collapsed[above] = 0;
			changed = true;
		}
	}
	return changed;
}

/**
 * The row of a node among the visible rows, or of its nearest visible ancestor. Rows are sorted by position in the
 * tree, so a binary search finds the last row at or before the node's position; that row is an ancestor or itself.
 */
export function rowOf(tree: TraceTree, rows: Int32Array, node: number): number {
	const wanted = tree.position[node]!;
	let low = 0;
	let high = rows.length - 1;
	while (low < high) {
		const middle = (low + high + 1) >> 1;
		if (tree.position[rows[middle]!]! <= wanted) low = middle;
		else high = middle - 1;
	}
	return low;
}

export interface RowWindow {
	/** First row to draw. */
	first: number;
	/** One past the last row to draw. */
	end: number;
}

/** How the rows of a waterfall are laid out; lengths in pixels. */
export interface RowLayout {
	/** The bar lies beneath the name, which then has the whole width, and not beside it. */
	stacked: boolean;
	rowHeight: number;
	/** From a span's name to its child's. */
	indent: number;
}

/** Narrower than this, a column of names beside the bars would hold a few letters. */
export const STACKED_BELOW_WIDTH = 560;

const ROW_HEIGHT = 26;
/** Room for a name, its service and the bar, and for a finger. */
const STACKED_ROW_HEIGHT = 50;
const INDENT_MAX = 16;
const STACKED_INDENT_MAX = 12;
/** The deepest span's indent takes at most this share of the room for names, however deep it lies. */
const INDENT_SHARE_MAX = 0.45;
const STACKED_INDENT_SHARE_MAX = 0.12;

/** `nameWidth` is the width of the column of names where they stand beside the bars. */
export function rowLayout(width: number, nameWidth: number, depthMax: number): RowLayout {
	const stacked = width > 0 && width < STACKED_BELOW_WIDTH;
	const room = stacked ? width * STACKED_INDENT_SHARE_MAX : nameWidth * INDENT_SHARE_MAX;
	return {
		stacked,
		rowHeight: stacked ? STACKED_ROW_HEIGHT : ROW_HEIGHT,
		indent: Math.min(stacked ? STACKED_INDENT_MAX : INDENT_MAX, room / Math.max(1, depthMax))
	};
}

/** The most rows that are ever in the document, the header and a pinned active row apart. */
export const ROWS_DRAWN_MAX = 96;

/** Which rows to draw for a scroll offset, with `overscan` rows on both sides as far as the limit allows. */
export function rowWindow(
	scrollTop: number,
	viewportHeight: number,
	rowHeight: number,
	rowCount: number,
	overscan: number
): RowWindow {
	const firstSeen = Math.floor(scrollTop / rowHeight);
	const seen = Math.ceil(viewportHeight / rowHeight) + 1;
	const margin = Math.max(0, Math.min(overscan, Math.floor((ROWS_DRAWN_MAX - seen) / 2)));
	const first = Math.max(0, Math.min(firstSeen - margin, rowCount - 1));
	const end = Math.min(rowCount, firstSeen + Math.min(seen, ROWS_DRAWN_MAX) + margin);
	return { first, end: Math.max(first, end) };
}

/** Where to scroll so that a row is wholly in sight, moving as little as possible. */
export function scrollToShow(
	row: number,
	scrollTop: number,
	viewportHeight: number,
	rowHeight: number,
	centre = false
): number {
	const top = row * rowHeight;
	const outside = top < scrollTop || top + rowHeight > scrollTop + viewportHeight;
	if (!outside) return scrollTop;
	if (centre) return Math.max(0, top - (viewportHeight - rowHeight) / 2);
	return top < scrollTop ? top : top + rowHeight - viewportHeight;
}

export interface Frame {
	/** Where on the screen the rows begin, and how much of them is seen. */
	top: number;
	height: number;
	rowHeight: number;
}

/**
 * Where to scroll when the frame of the rows has changed from `before` to `after`: rows stay where they were on the
 * screen as far as they can, and the cursor's row stays in sight if it was.
 */
export function scrollAfterResize(cursorRow: number, scrollTop: number, before: Frame, after: Frame): number {
	const offset = cursorRow * before.rowHeight - scrollTop;
	const wasSeen = offset + before.rowHeight > 0 && offset < before.height;
	if (before.rowHeight !== after.rowHeight) {
		const scaled = (scrollTop / before.rowHeight) * after.rowHeight;
		return wasSeen ? scrollToShow(cursorRow, scaled, after.height, after.rowHeight) : scaled;
	}
	const kept = Math.max(0, scrollTop + after.top - before.top);
	return wasSeen ? scrollToShow(cursorRow, kept, after.height, after.rowHeight) : kept;
}
