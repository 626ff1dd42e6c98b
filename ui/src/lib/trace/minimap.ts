import type { TraceModel } from './model';
import { isPlaceholder } from './tree';

export interface MinimapColours {
	services: string[];
	error: string;
	missing: string;
}

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
	const thickness = Math.min(4, Math.max(1, rowHeight * 0.62));
	const pixelPerNano = width / totalNanos;
	const errors: number[] = [];
	let drawn = 0;
	let lastLine = -1;
	let lastColour = '';
	let lastFrom = 0;
	let lastTo = -1;

	const put = (node: number, colour: string) => {
		const y = Math.min(height - thickness, tree.position[node]! * rowHeight + (rowHeight - thickness) / 2);
		const line = Math.floor(y);
		const from = tree.start[node]! * pixelPerNano;
		const to = from + Math.max(1, tree.duration[node]! * pixelPerNano);
		if (line === lastLine && colour === lastColour && from >= lastFrom && to <= lastTo) return;
		lastLine = line;
		lastColour = colour;
		lastFrom = from;
		lastTo = to;
		context.fillStyle = colour;
		context.fillRect(from, thickness > 1 ? y : line, to - from, thickness);
		drawn += 1;
	};

	for (const node of tree.order) {
		if (isPlaceholder(tree, node)) put(node, colours.missing);
		else if (trace.spans.status[node] === 2) errors.push(node);
		else put(node, colours.services[model.serviceColours[trace.spans.service[node]!] ?? 0] ?? colours.missing);
	}
	for (const node of errors) put(node, colours.error);
	return drawn;
}
