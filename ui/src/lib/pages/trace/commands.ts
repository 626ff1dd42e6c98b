import type { Handlers } from '$lib/shell/registry';
import type { TraceView } from './traceView.svelte';

/** What the page does for keys that reach beyond the waterfall. */
export interface Actions {
	open(node: number): void;
	close(): void;
	focusFind(): void;
	stepMatch(direction: 1 | -1): void;
	stepError(direction: 1 | -1): void;
	pageRows(): number;
}

export function traceCommands(view: TraceView, actions: Actions): Handlers<'trace'> {
	return {
		next: () => view.moveBy(1),
		previous: () => view.moveBy(-1),
		enter: () => view.expandOrEnter(),
		leave: () => view.collapseOrLeave(),
		toggle: () => view.toggle(view.cursor),
		open: () => actions.open(view.cursor),
		close: () => actions.close(),
		find: () => actions.focusFind(),
		nextMatch: () => actions.stepMatch(1),
		previousMatch: () => actions.stepMatch(-1),
		nextError: () => actions.stepError(1),
		previousError: () => actions.stepError(-1),
		zoomOut: () => view.zoom('out'),
		zoomIn: () => view.zoom('in'),
		wholeTrace: () => view.resetZoom(),
		zoomToSpan: () => view.zoomToNode(view.cursor),
		expandAll: () => view.showLevels(Infinity),
		collapseAll: () => view.showLevels(1),
		levels: (key) => view.showLevels(Number(key)),
		first: () => view.moveBy(-Infinity),
		last: () => view.moveBy(Infinity),
		pageDown: () => view.moveBy(actions.pageRows()),
		pageUp: () => view.moveBy(-actions.pageRows())
	};
}
