import type { TraceModel } from './model';
import { isPlaceholder } from './tree';

export interface MinimapColours {
	services: string[];
	error: string;
	missing: string;
}

/** Canvas pixels. */
const THICKNESS_MIN = 2;
const THICKNESS_MAX = 5;
const ERROR_SIZE_MIN = 4;

interface Painter {
	fillStyle: string | CanvasGradient | CanvasPattern;
	fillRect(x: number, y: number, width: number, height: number): void;
}

/**
 * Draws every span as a line: time across, tree order down. Where many spans share a line of pixels, one that would
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

	const put = (node: number, colour: string, thickness: number, widthMin: number) => {
		const middle = (tree.position[node]! + 0.5) * rowHeight - thickness / 2;
		const y = Math.max(0, Math.min(height - thickness, middle));
		const line = Math.floor(y);
		const start = Math.min(width - widthMin, tree.start[node]! * pixelPerNano);
		const end = start + Math.max(widthMin, tree.duration[node]! * pixelPerNano);
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
		if (isPlaceholder(tree, node)) put(node, colours.missing, spanThickness, 1);
		else if (trace.spans.status[node] === 2) errors.push(node);
		else put(node, colours.services[model.serviceColours[trace.spans.service[node]!] ?? 0] ?? colours.missing, spanThickness, 1);
	}
	// One failed span among a hundred thousand must still be seen.
	const errorThickness = isCrowded ? ERROR_SIZE_MIN : spanThickness;
	for (const node of errors) put(node, colours.error, errorThickness, ERROR_SIZE_MIN);
	return drawn;
}
