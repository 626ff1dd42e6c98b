/** What all charts have in common: where things stand, in pixels of the page, and the axes around them. */
import { formatClock, formatDay, formatZone } from '$lib/format';
import { token } from '$lib/stores/theme.svelte';
import { timeTicks, type Extent, type Scale } from './scale';

export interface Place {
	x: number;
	y: number;
}

export interface Box {
	left: number;
	top: number;
	right: number;
	bottom: number;
}

/** What lies between two places, inside the plot; along time alone, from its top to its bottom. Null if they are too near. */
export function selectionOf(from: Place | null, to: Place | null, plot: Box, alongTime: boolean, pixelsMin: number): Box | null {
	if (!from || !to) return null;
	if (Math.max(Math.abs(to.x - from.x), alongTime ? 0 : Math.abs(to.y - from.y)) < pixelsMin) return null;
	const within = (value: number, low: number, high: number) => Math.min(high, Math.max(low, value));
	const [left, right] = [Math.min(from.x, to.x), Math.max(from.x, to.x)].map((x) => within(x, plot.left, plot.right));
	const [top, bottom] = [Math.min(from.y, to.y), Math.max(from.y, to.y)].map((y) => within(y, plot.top, plot.bottom));
	return { left: left!, right: right!, top: alongTime ? plot.top : top!, bottom: alongTime ? plot.bottom : bottom! };
}

export interface Mark {
	/** Pixels along its axis. */
	at: number;
	label: string;
}

/** A local time on an axis, to the precision that the step between ticks needs; midnight is a day. */
export function timeLabel(millis: number, stepMillis: number): string {
	const clock = formatClock(millis);
	if (stepMillis >= 86_400_000 || clock.startsWith('00:00:00.000')) return formatDay(millis);
	return clock.slice(0, stepMillis >= 60_000 ? 5 : stepMillis >= 1_000 ? 8 : 12);
}

const TIME_LABEL_WIDTH = 110;

export function timeMarks(extent: Extent, scale: Scale): Mark[] {
	const room = scale.at(extent.high) - scale.at(extent.low);
	const { step, values } = timeTicks(extent, Math.max(2, Math.floor(room / TIME_LABEL_WIDTH)));
	return values.map((tick) => ({ at: scale.at(tick), label: timeLabel(tick, step) }));
}

export const axisFont = (element: Element) => `11px ${getComputedStyle(element).fontFamily}`;

/** Grid lines and labels: time below, with its zone in the corner, values at the left. */
export function drawAxes(context: CanvasRenderingContext2D, plot: Box, times: Mark[], values: Mark[], zoneOfMillis: number): void {
	context.font = axisFont(context.canvas);
	context.fillStyle = token('--grid-line');
	for (const { at } of values) context.fillRect(plot.left, Math.round(at), plot.right - plot.left, 1);
	for (const { at } of times) context.fillRect(Math.round(at), plot.top, 1, plot.bottom - plot.top + 4);
	context.fillStyle = token('--text-faint');
	context.textAlign = 'right';
	context.textBaseline = 'middle';
	for (const { at, label } of values) context.fillText(label, plot.left - 10, Math.max(at, 8));
	context.textBaseline = 'alphabetic';
	const below = plot.bottom + 18;
	context.fillText(formatZone(zoneOfMillis), plot.left - 8, below, plot.left - 10);
	context.textAlign = 'center';
	for (const { at, label } of times) context.fillText(label, Math.min(Math.max(at, plot.left + 20), plot.right - 24), below);
}
