import type { TraceView } from './traceView.svelte';

/** What the page does for keys that reach beyond the waterfall. */
export interface KeyActions {
	open(node: number): void;
	close(): void;
	focusFind(): void;
	stepMatch(direction: 1 | -1): void;
	stepError(direction: 1 | -1): void;
	pageRows(): number;
}

type Command = (view: TraceView, actions: KeyActions) => void;

/** Letters and signs: they work wherever the focus is, fields apart. */
const ANYWHERE: Record<string, Command> = {
	j: (view) => view.moveBy(1),
	k: (view) => view.moveBy(-1),
	h: (view) => view.collapseOrLeave(),
	l: (view) => view.expandOrEnter(),
	n: (_, actions) => actions.stepMatch(1),
	N: (_, actions) => actions.stepMatch(-1),
	e: (_, actions) => actions.stepError(1),
	E: (_, actions) => actions.stepError(-1),
	f: (view) => view.zoomToNode(view.cursor),
	'/': (_, actions) => actions.focusFind(),
	'[': (view) => view.zoom('out'),
	']': (view) => view.zoom('in'),
	'0': (view) => view.resetZoom(),
	'*': (view) => view.showLevels(Infinity),
	'-': (view) => view.showLevels(1),
	Escape: (_, actions) => actions.close()
};

/** Keys that other controls need too: they count only when the focus is in the waterfall, or nowhere. */
const IN_WATERFALL: Record<string, Command> = {
	ArrowDown: (view) => view.moveBy(1),
	ArrowUp: (view) => view.moveBy(-1),
	ArrowRight: (view) => view.expandOrEnter(),
	ArrowLeft: (view) => view.collapseOrLeave(),
	PageDown: (view, actions) => view.moveBy(actions.pageRows()),
	PageUp: (view, actions) => view.moveBy(-actions.pageRows()),
	Home: (view) => view.moveBy(-Infinity),
	End: (view) => view.moveBy(Infinity),
	Enter: (view, actions) => actions.open(view.cursor),
	' ': (view) => view.toggle(view.cursor)
};

/** Runs the command of a key; false when it has none. */
export function runKey(key: string, inWaterfall: boolean, view: TraceView, actions: KeyActions): boolean {
	const command = ANYWHERE[key] ?? (inWaterfall ? IN_WATERFALL[key] : undefined);
	if (command) command(view, actions);
	else if (/^[1-9]$/.test(key)) view.showLevels(Number(key));
	else return false;
	return true;
}
