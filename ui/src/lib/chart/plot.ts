/** Lines over time, drawn with uPlot. Only `Series.svelte` loads this file, when there is something to draw. */
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { formatZone } from '$lib/format';
import { token } from '$lib/stores/theme.svelte';
import { axisFont, timeLabel, type Box, type Place } from './frame';
import type { Hover, SeriesColumns } from './series';

const MARK_RADIUS = 2.8;
const LABEL_LEFT_MIN = 14;
const MARK_REACH = 9;
/** With more lines than this, marks on all of them would be a fog: only the line under the pointer shows its own. */
const LINES_MARKED_MAX = 10;
/** Pointer and keys are the frame's. */
const DEAF = () => null;

/** One plot for as long as its panel is there: other data, another width or theme change it and never make another. */
export class LinePlot {
	readonly chart: uPlot;
	#columns: SeriesColumns = { seconds: [], lines: [], marks: [] };
	#format: (value: number) => string = String;
	#nearest: number | null = null;
	#hoveredMark: number | null = null;

	/** `onplot` hears where the plot is, inside its axes, whenever it has been drawn. */
	constructor(parent: HTMLElement, width: number, height: number, onplot: (plot: Box) => void) {
		// Without a canvas uPlot fails only after this function, where nobody can catch it.
		if (!document.createElement('canvas').getContext('2d')) throw new Error('There is no canvas to draw on');
		const axis: uPlot.Axis = {
			stroke: () => token('--text-faint'),
			font: axisFont(parent),
			grid: { stroke: () => token('--grid-line'), width: 1 },
			ticks: { show: false }
		};
		this.chart = new uPlot(
			{
				width,
				height,
				legend: { show: false },
				focus: { alpha: 0.22 },
				cursor: {
					focus: { prox: 24 },
					drag: { x: false, y: false },
					points: { size: 7 },
					y: false,
					bind: { mousedown: DEAF, mouseup: DEAF, click: DEAF, dblclick: DEAF, mousemove: DEAF, mouseleave: DEAF, mouseenter: DEAF }
				},
				scales: { y: { range: (_, low, high) => rangeOf(low, high) } },
				axes: [
					{
						...axis,
						size: 30,
						space: 90,
						// The zone stands in the corner, where the label of a tick at the very left would run into it.
						values: (plot, splits, _index, _space, step) =>
							splits.map((at) => (plot.valToPos(at, 'x') < LABEL_LEFT_MIN ? '' : timeLabel(at * 1000, step * 1000)))
					},
					{
						...axis,
						size: (_plot, labels) => 18 + 7 * Math.max(5, ...(labels ?? []).map((label) => label.length)),
						values: (_plot, splits) => splits.map(this.#format),
						space: 34
					}
				],
				series: [{}],
				hooks: {
					draw: [
						() => {
							this.#drawZone();
							this.#columns.marks.forEach((_, index) => this.#drawMark(index));
							onplot(this.#area());
						}
					],
					setSeries: [(_, index) => (this.#nearest = index === null || index === 0 ? null : index - 1)]
				}
			},
			[[]],
			parent
		);
	}

	show(columns: SeriesColumns, format: (value: number) => string): void {
		this.#columns = columns;
		this.#format = format;
		this.#hoveredMark = null;
		const { chart } = this;
		chart.setSeries(null, { focus: true });
		while (chart.series.length - 1 > columns.lines.length) chart.delSeries(chart.series.length - 1);
		while (chart.series.length - 1 < columns.lines.length) chart.addSeries(this.#series(chart.series.length - 1));
		columns.lines.forEach(({ dashed }, index) => (chart.series[index + 1]!.dash = dashed ? [6, 4] : undefined));
		const finite = columns.lines.map(({ values }) => values.map((value) => (Number.isFinite(value) ? value : null)));
		chart.setData([columns.seconds, ...finite]);
	}

	#series(index: number): uPlot.Series {
		const colour = () => token(this.#columns.lines[index]?.colour ?? '--text');
		const filter: uPlot.Series.Points.Filter = (drawn, at, show) => (show ? null : lonely(drawn.data[at]!));
		return { stroke: colour, width: 1.6, points: { size: 5, fill: colour, filter } };
	}

	/** Draws only these lines; null draws all. */
	only(lines: ReadonlySet<number> | null): void {
		this.chart.batch(() =>
			this.#columns.lines.forEach((_, index) => this.chart.setSeries(index + 1, { show: lines === null || lines.has(index) }))
		);
	}

	/** What is at a place: the step, the nearest line, the nearest mark. */
	point(place: Place | null): Hover | null {
		const plot = this.#area();
		const isInside = place !== null && place.x >= plot.left && place.x <= plot.right && place.y >= plot.top && place.y <= plot.bottom;
		this.chart.setCursor(isInside ? { left: place.x - plot.left, top: place.y - plot.top } : { left: -10, top: -10 });
		const mark = isInside ? this.#markAt(place) : null;
		if (mark !== this.#hoveredMark) {
			this.#hoveredMark = mark;
			this.chart.redraw(false);
		}
		const { idx } = this.chart.cursor;
		return isInside && typeof idx === 'number' ? { step: idx, line: this.#nearest, mark, place } : null;
	}

	/** The next step at the height of the nearest line, or the next line at that step. */
	next(from: Place | null, dx: number, dy: number): Place | null {
		const { left, top } = this.#area();
		const { seconds } = this.#columns;
		if (seconds.length === 0) return null;
		const step = from ? Math.min(seconds.length - 1, Math.max(0, this.chart.posToIdx(from.x - left) + dx)) : 0;
		const heights = this.chart.data.slice(1).flatMap((values, index) => {
			const value = this.chart.series[index + 1]!.show ? values[step] : null;
			return value === null || value === undefined ? [] : [this.chart.valToPos(value, 'y') + top];
		});
		const y = from?.y ?? top;
		const beyond = heights.filter((height) => (dy === 0 ? true : (height - y) * dy > 0.5));
		const nearest = beyond.reduce((best, height) => (Math.abs(height - y) < Math.abs(best - y) ? height : best), beyond[0] ?? y);
		return { x: this.chart.valToPos(seconds[step]!, 'x') + left, y: nearest };
	}

	#area(): Box {
		const { offsetLeft: left, offsetTop: top, clientWidth, clientHeight } = this.chart.over;
		return { left, top, right: left + clientWidth, bottom: top + clientHeight };
	}

	#isMarked(line: number): boolean {
		const { series } = this.chart;
		if (!series[line + 1]?.show) return false;
		return this.#nearest === line || series.reduce((count, { show }) => count + Number(show), -1) <= LINES_MARKED_MAX;
	}

	#markAt({ x, y }: Place): number | null {
		const { left, top } = this.#area();
		let found: number | null = null;
		let closest = MARK_REACH;
		this.#columns.marks.forEach(({ line, seconds, value }, index) => {
			if (!this.#isMarked(line)) return;
			const distance = Math.hypot(this.chart.valToPos(seconds, 'x') + left - x, this.chart.valToPos(value, 'y') + top - y);
			if (distance <= closest) [found, closest] = [index, distance];
		});
		return found;
	}

	#drawMark(index: number): void {
		const { line, seconds, value } = this.#columns.marks[index]!;
		if (!this.#isMarked(line)) return;
		const { ctx: context, bbox } = this.chart;
		const ratio = devicePixelRatio || 1;
		const [x, y] = [this.chart.valToPos(seconds, 'x', true), this.chart.valToPos(value, 'y', true)];
		if (x < bbox.left || x > bbox.left + bbox.width || y < bbox.top || y > bbox.top + bbox.height) return;
		const radius = (index === this.#hoveredMark ? MARK_RADIUS + 1.4 : MARK_RADIUS) * ratio;
		context.save();
		context.translate(x, y);
		context.rotate(Math.PI / 4);
		context.fillStyle = token(this.#columns.lines[line]!.colour);
		context.strokeStyle = token('--surface');
		context.lineWidth = 1.5 * ratio;
		context.fillRect(-radius, -radius, 2 * radius, 2 * radius);
		context.strokeRect(-radius, -radius, 2 * radius, 2 * radius);
		context.restore();
	}

	#drawZone(): void {
		const { ctx: context, bbox } = this.chart;
		const ratio = devicePixelRatio || 1;
		context.save();
		context.font = axisFont(this.chart.root).replace('11px', `${11 * ratio}px`);
		context.fillStyle = token('--text-faint');
		context.textAlign = 'right';
		context.textBaseline = 'top';
		context.fillText(formatZone((this.#columns.seconds[0] ?? 0) * 1000), bbox.left - 8 * ratio, bbox.top + bbox.height + 6 * ratio, bbox.left - 10 * ratio);
		context.restore();
	}
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
	const missing = (index: number) => (values[index] ?? null) === null;
	const all = Array.from({ length: values.length }, (_, index) => index);
	return all.filter((index) => !missing(index) && missing(index - 1) && missing(index + 1));
}
