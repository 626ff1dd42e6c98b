/** Time series drawn with uPlot. Only `TimeSeries.svelte` loads this file, when there is something to draw. */
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { formatClock, formatDay } from '$lib/format';

export interface PlotSeries {
	label: string;
	/** A CSS colour. */
	colour: string;
	/** Beyond the ring of colours, lines are dashed. */
	dashed: boolean;
	values: (number | null)[];
}

export interface PlotMark {
	/** Position among the drawn series. */
	series: number;
	seconds: number;
	value: number;
}

export interface PlotTheme {
	text: string;
	grid: string;
	ground: string;
	font: string;
}

/** What is under the pointer: the step, the nearest series, the nearest mark. */
export interface PlotHover {
	step: number | null;
	series: number | null;
	mark: number | null;
	left: number;
	top: number;
}

export interface PlotOptions {
	parent: HTMLElement;
	width: number;
	height: number;
	seconds: number[];
	series: PlotSeries[];
	marks: PlotMark[];
	theme: PlotTheme;
	format: (value: number) => string;
	onhover: (hover: PlotHover) => void;
	onzoom: (fromSeconds: number, toSeconds: number) => void;
	onmark: (mark: number) => void;
}

export interface PlotHandle {
	resize(width: number, height: number): void;
	/** Draws only these series; null draws all. */
	only(series: ReadonlySet<number> | null): void;
	highlight(series: number | null): void;
	destroy(): void;
}

const MARK_RADIUS = 4;
const MARK_REACH = 9;
const DRAG_MIN = 6;
/** With more lines than this, marks on all of them would be a fog: only the line under the pointer shows its own. */
const LINES_MARKED_MAX = 10;

export function createPlot(options: PlotOptions): PlotHandle {
	// Without a canvas uPlot fails only after this function, where nobody can catch it.
	if (!document.createElement('canvas').getContext('2d')) throw new Error('There is no canvas to draw on');
	const { parent, series, marks, theme, onhover, onzoom, onmark } = options;
	let hoveredMark: number | null = null;
	let nearest: number | null = null;
	let shownCount = series.length;

	const axis = { stroke: theme.text, font: theme.font, grid: { stroke: theme.grid, width: 1 }, ticks: { show: false } };
	const placeOf = (plot: uPlot, mark: PlotMark) => ({
		x: plot.valToPos(mark.seconds, 'x'),
		y: plot.valToPos(mark.value, 'y')
	});

	const plot = new uPlot(
		{
			width: options.width,
			height: options.height,
			legend: { show: false },
			focus: { alpha: 0.22 },
			cursor: {
				focus: { prox: 24 },
				drag: { x: true, y: false, setScale: false, dist: DRAG_MIN },
				points: { size: 7 },
				y: false
			},
			scales: { y: { range: (_, low, high) => rangeOf(low, high) } },
			axes: [
				{
					...axis,
					size: 30,
					space: 90,
					values: (_plot, splits, _index, _space, step) => splits.map((at) => timeLabel(at, step))
				},
				{
					...axis,
					size: (_plot, labels) => 18 + 7 * Math.max(4, ...(labels ?? []).map((label) => label.length)),
					values: (_plot, splits) => splits.map(options.format),
					space: 34
				}
			],
			series: [
				{},
				...series.map((item): uPlot.Series => ({
					label: item.label,
					stroke: item.colour,
					width: 1.6,
					...(item.dashed && { dash: [6, 4] }),
					points: {
						size: 5,
						fill: item.colour,
						filter: (drawn, index, show) => (show ? null : lonely(drawn.data[index]!))
					}
				}))
			],
			hooks: {
				draw: [(drawn) => drawMarks(drawn)],
				setSeries: [(_, index) => (nearest = index === null || index === 0 ? null : index - 1)],
				setCursor: [(drawn) => moved(drawn)],
				setSelect: [
					(drawn) => {
						const { left, width } = drawn.select;
						if (width < DRAG_MIN) return;
						onzoom(drawn.posToVal(left, 'x'), drawn.posToVal(left + width, 'x'));
						drawn.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
					}
				]
			}
		},
		[options.seconds, ...series.map((item) => item.values.map((value) => (Number.isFinite(value) ? value : null)))],
		parent
	);

	function isMarked(drawn: uPlot, mark: PlotMark): boolean {
		if (!drawn.series[mark.series + 1]?.show) return false;
		return shownCount <= LINES_MARKED_MAX || nearest === mark.series;
	}

	function drawMarks(drawn: uPlot) {
		const context = drawn.ctx;
		const ratio = devicePixelRatio || 1;
		context.save();
		marks.forEach((mark, index) => {
			if (!isMarked(drawn, mark)) return;
			const { left, top, width, height } = drawn.bbox;
			const x = drawn.valToPos(mark.seconds, 'x', true);
			const y = drawn.valToPos(mark.value, 'y', true);
			if (x < left || x > left + width || y < top || y > top + height) return;
			const radius = (index === hoveredMark ? MARK_RADIUS + 2 : MARK_RADIUS) * ratio;
			context.beginPath();
			context.moveTo(x, y - radius);
			context.lineTo(x + radius, y);
			context.lineTo(x, y + radius);
			context.lineTo(x - radius, y);
			context.closePath();
			context.fillStyle = series[mark.series]!.colour;
			context.strokeStyle = theme.ground;
			context.lineWidth = 1.5 * ratio;
			context.fill();
			context.stroke();
		});
		context.restore();
	}

	function markAt(drawn: uPlot, left: number, top: number): number | null {
		let found: number | null = null;
		let closest = MARK_REACH;
		marks.forEach((mark, index) => {
			if (!isMarked(drawn, mark)) return;
			const { x, y } = placeOf(drawn, mark);
			const distance = Math.hypot(x - left, y - top);
			if (distance <= closest) [found, closest] = [index, distance];
		});
		return found;
	}

	function moved(drawn: uPlot) {
		const { left = -1, top = -1, idx } = drawn.cursor;
		const inside = left >= 0 && top >= 0;
		const mark = inside ? markAt(drawn, left, top) : null;
		if (mark !== hoveredMark) {
			hoveredMark = mark;
			drawn.over.style.cursor = mark === null ? 'crosshair' : 'pointer';
			drawn.redraw(false);
		}
		const { offsetLeft, offsetTop } = drawn.over;
		onhover({
			step: inside ? (idx ?? null) : null,
			series: nearest,
			mark,
			left: left + offsetLeft,
			top: top + offsetTop
		});
	}

	plot.over.addEventListener('click', () => hoveredMark !== null && onmark(hoveredMark));

	return {
		resize: (width, height) => plot.setSize({ width, height }),
		only(shown) {
			shownCount = shown?.size ?? series.length;
			plot.batch(() =>
				series.forEach((_, index) => plot.setSeries(index + 1, { show: shown === null || shown.has(index) }))
			);
		},
		highlight: (index) => plot.setSeries(index === null ? null : index + 1, { focus: true }),
		destroy: () => plot.destroy()
	};
}

/** Counts and rates stand on zero; whatever goes below it gets room there. */
function rangeOf(low: number | null, high: number | null): uPlot.Range.MinMax {
	if (low === null || high === null) return [0, 1];
	if (low >= 0) return [0, high === 0 ? 1 : high * 1.08];
	const room = (high - low || 1) * 0.08;
	return [low - room, Math.max(0, high + room)];
}

/** Values with none beside them: no line reaches them, so they need a point. */
function lonely(values: ArrayLike<number | null | undefined>): number[] {
	const found: number[] = [];
	const missing = (index: number) => values[index] === null || values[index] === undefined;
	for (let index = 0; index < values.length; index += 1) {
		if (!missing(index) && missing(index - 1) && missing(index + 1)) found.push(index);
	}
	return found;
}

function timeLabel(seconds: number, step: number): string {
	const millis = seconds * 1000;
	const date = new Date(millis);
	const isMidnight = date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0;
	if (step >= 86_400 || isMidnight) return formatDay(millis);
	return formatClock(millis).slice(0, step >= 60 ? 5 : step >= 1 ? 8 : 12);
}
