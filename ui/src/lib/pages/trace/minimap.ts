import { errorsBelow, type TraceModel } from './model';
import { isPlaceholder } from './tree';

export interface MinimapColours {
	services: string[];
	error: string;
	missing: string;
}

/** Canvas pixels. */
const THICKNESS_MIN = 2;
const THICKNESS_MAX = 5;
const ERROR_SIZE = 4;

interface Painter {
	fillStyle: string | CanvasGradient | CanvasPattern;
	fillRect(x: number, y: number, width: number, height: number): void;
}

/**
 * Draws every span as a line: time across, tree order down; red is the end of those where a failure began, with nothing failed
 * beneath, and not of every span up to the root. Where many spans share a line of pixels, one that would
 * land wholly on what was just drawn there in the same colour is left out, so that 100,000 spans stay cheap.
 */
export function drawMinimap(context: Painter, model: TraceModel, width: number, height: number, colours: MinimapColours): number {
	const { tree, trace, totalNanos } = model;
	const rowHeight = height / tree.nodeCount;
	const spanThickness = Math.min(THICKNESS_MAX, Math.max(THICKNESS_MIN, rowHeight * 0.75));
	const pixelPerNano = width / totalNanos;
	/** Several spans to a line of pixels: whole pixels are precise enough. */
	const isCrowded = rowHeight < 1;
	const errors: number[] = [];
	let drawn = 0;
	let lastLine = -1;
	let lastColour = '';
	let lastFrom = 0;
	let lastTo = -1;

	const put = (node: number, colour: string, thickness: number, start: number, end: number) => {
		const middle = (tree.position[node]! + 0.5) * rowHeight - thickness / 2;
		const y = Math.max(0, Math.min(height - thickness, middle));
		const line = Math.floor(y);
		const from = isCrowded ? Math.floor(start) : start;
		const to = isCrowded ? Math.ceil(end) : end;
		if (line === lastLine && colour === lastColour && from >= lastFrom && to <= lastTo) return;
		lastLine = line;
		lastColour = colour;
		lastFrom = from;
		lastTo = to;
		context.fillStyle = colour;
		context.fillRect(from, isCrowded ? line : y, to - from, thickness);
		drawn += 1;
	};

	for (const node of tree.order) {
		const start = Math.min(width - 1, tree.start[node]! * pixelPerNano);
		const end = start + Math.max(1, tree.duration[node]! * pixelPerNano);
		const colour = isPlaceholder(tree, node) ? undefined : colours.services[model.serviceColours[trace.spans.service[node]!] ?? 0];
		put(node, colour ?? colours.missing, spanThickness, start, end);
		if (!isPlaceholder(tree, node) && trace.spans.status[node] === 2 && errorsBelow(model, node) === 0) errors.push(node);
	}
	// One failed span among a hundred thousand must still be seen.
	const errorThickness = isCrowded ? ERROR_SIZE : Math.max(ERROR_SIZE, spanThickness);
	for (const node of errors) {
		const end = Math.max(ERROR_SIZE, Math.min(width, (tree.start[node]! + tree.duration[node]!) * pixelPerNano));
		put(node, colours.error, Math.min(height, errorThickness), end - ERROR_SIZE, end);
	}
	return drawn;
}
