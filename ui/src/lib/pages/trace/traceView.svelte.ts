import type { TimeWindow } from '$lib/address/pages';
import type { TraceModel } from './model';
import { collapseToDepth, reveal, rowOf, visibleRows } from './rows';
import { clampWindow, zoomAround } from './scale';
import { isPlaceholder, NO_PARENT } from './tree';

const ZOOM_STEP = 0.6;

/** What the waterfall shows of a trace: what is collapsed, where the cursor is, which span is open, the time window. */
export class TraceView {
	readonly model: TraceModel;
	/** Visible nodes from top to bottom. */
	rows = $state.raw<Int32Array>(new Int32Array(0));
	/** Collapsed nodes; replaced, never changed in place, so that rows see it. */
	collapsed = $state.raw<Uint8Array>(new Uint8Array(0));
	/** The node under the keyboard. */
	cursor = $state(0);
	/** The node whose details are open, -1 for none. */
	selected = $state(-1);
	window = $state.raw<TimeWindow>({ from: 0, to: 1 });
	/** Bumped when the cursor's row should come into sight; centred when `centre`. */
	scrollRequest = $state.raw<{ centre: boolean }>({ centre: false });

	constructor(model: TraceModel) {
		this.model = model;
		this.#setCollapsed(new Uint8Array(model.tree.nodeCount));
		this.cursor = model.tree.order[0] ?? 0;
		this.window = { from: 0, to: model.totalNanos };
	}

	#setCollapsed(collapsed: Uint8Array): void {
		this.collapsed = collapsed;
		this.rows = visibleRows(this.model.tree, collapsed);
	}

	get cursorRow(): number {
		return rowOf(this.model.tree, this.rows, this.cursor);
	}

	get isZoomed(): boolean {
		return this.window.from > 0 || this.window.to < this.model.totalNanos;
	}

	hasChildren(node: number): boolean {
		return this.model.tree.childCount[node]! > 0;
	}

	setExpanded(node: number, expanded: boolean): void {
		if (!this.hasChildren(node) || (this.collapsed[node] === 0) === expanded) return;
		const collapsed = this.collapsed.slice();
		collapsed[node] = expanded ? 0 : 1;
		this.#setCollapsed(collapsed);
		this.#keepCursorVisible();
	}

	toggle(node: number): void {
		this.setExpanded(node, this.collapsed[node] === 1);
	}

	/** Shows this many levels of the tree; Infinity shows all. */
	showLevels(levels: number): void {
		this.#setCollapsed(collapseToDepth(this.model.tree, levels - 1));
		this.#keepCursorVisible();
		this.scrollRequest = { centre: false };
	}

	#keepCursorVisible(): void {
		const row = rowOf(this.model.tree, this.rows, this.cursor);
		const node = this.rows[row];
		if (node === undefined || node === this.cursor) return;
		this.cursor = node;
		if (this.selected !== -1) this.select(node);
	}

	/**
	 * Moves the cursor to a node, opening what hides it; open details follow. A jump (`centre`) also brings the node's
	 * time on screen, as a match nobody can see is no match.
	 */
	moveTo(node: number, centre = false): void {
		const collapsed = this.collapsed.slice();
		if (reveal(this.model.tree, collapsed, node)) this.#setCollapsed(collapsed);
		this.cursor = node;
		if (this.selected !== -1) this.select(node);
		if (centre) this.#showTimeOf(node);
		this.scrollRequest = { centre };
	}

	#showTimeOf(node: number): void {
		const { start, duration } = this.model.tree;
		const { from, to } = this.window;
		if (start[node]! <= to && start[node]! + duration[node]! >= from) return;
		const middle = start[node]! + duration[node]! / 2;
		this.setWindow({ from: middle - (to - from) / 2, to: middle + (to - from) / 2 });
	}

	moveBy(rowCount: number): void {
		const row = Math.min(this.rows.length - 1, Math.max(0, this.cursorRow + rowCount));
		const node = this.rows[row];
		if (node !== undefined) this.moveTo(node);
	}

	/** The right arrow of a tree: opens the node, or goes to its first child. */
	expandOrEnter(): void {
		if (!this.hasChildren(this.cursor)) return;
		if (this.collapsed[this.cursor]) this.setExpanded(this.cursor, true);
		else this.moveBy(1);
	}

	/** The left arrow of a tree: closes the node, or goes to its parent. */
	collapseOrLeave(): void {
		if (this.hasChildren(this.cursor) && !this.collapsed[this.cursor]) {
			this.setExpanded(this.cursor, false);
			return;
		}
		const parent = this.model.tree.parent[this.cursor]!;
		if (parent !== NO_PARENT) this.moveTo(parent);
	}

	/** Opens the details of a node; a placeholder has none. */
	select(node: number): void {
		this.cursor = node;
		this.selected = isPlaceholder(this.model.tree, node) ? -1 : node;
	}

	/** Opens the details of a span by its id, in sight; false when this trace does not hold it. */
	selectById(spanId: string): boolean {
		const span = this.model.spanIndexById.get(spanId);
		if (span === undefined) return false;
		this.moveTo(span, true);
		this.select(span);
		return true;
	}

	closeDetails(): void {
		this.selected = -1;
	}

	/** The next span with status error from the cursor on, going round; -1 when the trace has none. */
	nextError(direction: 1 | -1): number {
		const { tree, trace } = this.model;
		const from = tree.position[this.cursor]!;
		for (let step = 1; step <= tree.nodeCount; step += 1) {
			const at = (from + direction * step + tree.nodeCount * 2) % tree.nodeCount;
			const node = tree.order[at]!;
			if (trace.spans.status[node] === 2) return node;
		}
		return -1;
	}

	setWindow(window: TimeWindow): void {
		this.window = clampWindow(window, this.model.totalNanos);
	}

	/** Zooms around a fraction of the window; without one around the cursor's span if it is in sight, else the middle. */
	zoom(direction: 'in' | 'out', fraction?: number): void {
		const { tree, totalNanos } = this.model;
		const middle = tree.start[this.cursor]! + tree.duration[this.cursor]! / 2;
		const inSight = middle >= this.window.from && middle <= this.window.to;
		const at = inSight ? (middle - this.window.from) / (this.window.to - this.window.from) : 0.5;
		const factor = direction === 'in' ? ZOOM_STEP : 1 / ZOOM_STEP;
		this.window = zoomAround(this.window, factor, fraction ?? at, totalNanos);
	}

	zoomToNode(node: number): void {
		const { tree } = this.model;
		const air = Math.max(tree.duration[node]! * 0.08, 50);
		this.setWindow({ from: tree.start[node]! - air, to: tree.start[node]! + tree.duration[node]! + air });
	}

	resetZoom(): void {
		this.window = { from: 0, to: this.model.totalNanos };
	}
}
