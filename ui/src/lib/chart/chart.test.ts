import { afterEach, describe, expect, it, vi } from 'vitest';
import { rowCount, toCsv, toJson } from './columns';
import { extentsOf, nearestPoint, nextPoint, radiusOf } from './points';
import { countTicks, durationTicks, extentOf, linear, logarithmic, strength, timeTicks } from './scale';
import { tipLines, type Hover } from './series';

vi.mock('$lib/stores/theme.svelte', () => ({ token: () => '' }));
const { selectionOf, timeLabel } = await import('./frame');

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
afterEach(() => vi.unstubAllEnvs());

describe('ticks of counts', () => {
	it.each([
		[0, []],
		[0.4, []],
		[1, [1]],
		[2, [1, 2]],
		[7, [5]],
		[100, [50, 100]],
		[123_456, [50_000, 100_000]]
	])('up to %d', (high, expected) => expect(countTicks(high, 3)).toEqual(expected));
});

describe('scales', () => {
	it.each([
		['linear', linear(10, 20, 100, 200), 15, 150],
		['turned over', linear(0, 1, 100, 0), 0.25, 75],
		['logarithmic', logarithmic(1e3, 1e9, 0, 600), 1e6, 300]
	])('%s: places and reads back', (_, scale, value, pixel) => {
		expect(scale.at(value)).toBeCloseTo(pixel);
		expect(scale.value(pixel) / value).toBeCloseTo(1);
	});

	it('put nothing below one on a logarithm', () => expect(logarithmic(1, 10, 0, 10).at(0)).toBe(0));

	it.each([
		[[], null],
		[[3], { low: 3, high: 3 }],
		[[3, -1, 2], { low: -1, high: 3 }]
	])('%j reach %j', (values, extent) => expect(extentOf(values)).toEqual(extent));

	it.each([
		[0, 100, 0],
		[25, 100, 0.5],
		[100, 100, 1]
	])('%d of %d in a heatmap is coloured %f', (count, max, expected) => expect(strength(count, max)).toBe(expected));

	it('show few beside many', () => expect(strength(1, 1e6)).toBeGreaterThan(0.05));
});

describe('ticks of durations', () => {
	it.each([
		[1e6 / 1.6, 1.6e9, [1e6, 1e7, 1e8, 1e9]],
		[1.1e6, 4e6, [2e6]],
		[5e8, 4e12, [1e9, 1e10, 6e10, 6e11, 3.6e12]]
	])('from %d to %d ns', (low, high, expected) => expect(durationTicks({ low, high })).toEqual(expected));
});

describe('ticks of time', () => {
	/** Local hours and minutes of the ticks. */
	const clocks = (low: number, high: number, count: number) =>
		timeTicks({ low, high }, count).values.map((tick) => new Date(tick).toTimeString().slice(0, 5));

	it.each([
		['UTC', '2026-06-01T00:10Z', 6 * HOUR, 4, ['02:00', '04:00', '06:00']],
		['Asia/Kolkata', '2026-06-01T00:10Z', 4 * HOUR, 4, ['06:00', '07:00', '08:00', '09:00']],
		['America/New_York', '2026-06-01T00:10Z', 2 * DAY, 2, ['00:00', '00:00']],
		['Europe/Berlin, clocks put back', '2026-10-24T22:00Z', 25 * HOUR, 5, ['00:00', '06:00', '12:00', '18:00', '00:00']],
		['Europe/Berlin, clocks put forward', '2026-03-28T23:00Z', 23 * HOUR, 5, ['00:00', '06:00', '12:00', '18:00', '00:00']],
		['Europe/Berlin, days across', '2026-10-24T10:00Z', 3 * DAY, 3, ['00:00', '00:00', '00:00']]
	])('are round in %s', (zone, from, length, count, expected) => {
		vi.stubEnv('TZ', zone.split(',')[0]);
		expect(clocks(Date.parse(from), Date.parse(from) + length, count)).toEqual(expected);
	});

	it.each([1, 1_000, HOUR, 40 * DAY, 4_000 * DAY, 1e15])('are few over %d ms', (length) => {
		const { values } = timeTicks({ low: 1.77e12, high: 1.77e12 + length }, 8);
		expect(values.length).toBeLessThanOrEqual(10);
		expect(values).toEqual([...new Set(values)].sort((a, b) => a - b));
	});

	it.each([
		['2026-06-01T00:00:00', HOUR, 'Jun 1'],
		['2026-06-01T12:00:00', DAY, 'Jun 1'],
		['2026-06-01T12:30:00', HOUR / 2, '12:30'],
		['2026-06-01T12:30:15', 15_000, '12:30:15'],
		['2026-06-01T12:30:15.250', 50, '12:30:15.250']
	])('%s in steps of %d ms is written %s', (local, step, expected) => expect(timeLabel(Date.parse(local), step)).toBe(expected));
});

describe('a selection', () => {
	const plot = { left: 10, top: 10, right: 110, bottom: 60 };
	it.each([
		['nothing while nothing is dragged', null, { x: 5, y: 5 }, false, null],
		['nothing of a press', { x: 20, y: 20 }, { x: 23, y: 23 }, false, null],
		['a box', { x: 40, y: 50 }, { x: 20, y: 20 }, false, { left: 20, top: 20, right: 40, bottom: 50 }],
		['no more than the plot', { x: 0, y: 0 }, { x: 500, y: 500 }, false, plot],
		['all heights of a time', { x: 20, y: 20 }, { x: 40, y: 21 }, true, { left: 20, top: 10, right: 40, bottom: 60 }],
		['no time of a drag upwards', { x: 20, y: 20 }, { x: 21, y: 50 }, true, null]
	])('is %s', (_, from, to, alongTime, expected) => expect(selectionOf(from, to, plot, alongTime, 6)).toEqual(expected));
});

describe('points', () => {
	const columns = (times: number[], durations: number[]) => ({ times, durations, sizes: times.map(() => 1), marked: times.map(() => false) });
	const points = [
		{ index: 0, x: 10, y: 50, radius: 3 },
		{ index: 1, x: 40, y: 20, radius: 3 },
		{ index: 2, x: 90, y: 80, radius: 3 }
	];

	it.each([[[], []], [[5], [0]], [[5], [7]], [[5, 5], [7, 7]], [[1, 9], [Number.MAX_VALUE, 1]]])('at %j and %j have room', (times, durations) => {
		const { time, duration } = extentsOf(columns(times, durations));
		expect(time.high).toBeGreaterThan(time.low);
		expect(duration.high).toBeGreaterThan(duration.low);
		expect(duration.low).toBeGreaterThan(0);
		expect(duration.high).toBeLessThan(Infinity);
	});

	it.each([
		[{ x: 46, y: 20 }, 1],
		[{ x: 60, y: 50 }, null]
	])('near %j: %s', (place, index) => expect(nearestPoint(points, place, 12)?.index ?? null).toBe(index));

	it.each([
		['right of nowhere', null, 1, 0, 0],
		['left of nowhere', null, -1, 0, 2],
		['right', points[0]!, 1, 0, 1],
		['left', points[2]!, -1, 0, 1],
		['above', points[0]!, 0, -1, 1],
		['below', points[0]!, 0, 1, 2],
		['right of the last', points[2]!, 1, 0, null]
	])('the next one %s', (_, from, dx, dy, index) => expect(nextPoint(points, from, dx, dy)?.index ?? null).toBe(index));

	it('grow with what they stand for, up to a size', () => {
		expect([0, 1, 100, 1e12].map(radiusOf)).toEqual([3, 3, 5.8, 9]);
	});
});

describe('the tip of lines', () => {
	const line = (value: number | null) => ({ label: '', colour: '', dashed: false, values: [value] });
	const hover = (near: number | null): Hover => ({ step: 0, line: near, mark: null, place: { x: 0, y: 0 } });
	const tip = (values: (number | null)[], near: number | null, shown = (_: number) => true) => {
		const { listed, more } = tipLines({ seconds: [0], lines: values.map(line), marks: [] }, hover(near), shown);
		return [listed.map(({ index }) => index), more];
	};

	it.each([
		['the largest first', [1, 3, 2], null, [[1, 2, 0], 0]],
		['the one pointed at before all', [1, 3, 2], 0, [[0, 1, 2], 0]],
		['none without a value', [1, null, 2], null, [[2, 0], 0]],
		['eight and how many more', [9, 8, 7, 6, 5, 4, 3, 2, 1, 0], null, [[0, 1, 2, 3, 4, 5, 6, 7], 2]]
	])('lists %s', (_, values, near, expected) => expect(tip(values, near)).toEqual(expected));

	it('lists none that is hidden', () => expect(tip([1, 2], null, (index) => index === 0)).toEqual([[0], 0]));
});

describe('columns that are taken away', () => {
	it.each([
		['numbers as they are', [{ name: 'n', values: [1, -2.5, NaN, null] }], 'n\r\n1\r\n-2.5\r\n\r\n\r\n'],
		['what must be quoted', [{ name: 'a,b', values: ['x "y"', 'two\nlines'] }], '"a,b"\r\n"x ""y"""\r\n"two\nlines"\r\n'],
		['no formulas', [{ name: '=A1', values: ['=1+1', '+1', '@x', '-x'] }], "'=A1\r\n'=1+1\r\n'+1\r\n'@x\r\n'-x\r\n"],
		['columns of two lengths', [{ name: 'a', values: [1] }, { name: 'b', values: [1, 2] }], 'a,b\r\n1,1\r\n,2\r\n'],
		['none', [], '\r\n']
	])('as CSV: %s', (_, columns, expected) => expect(toCsv(columns)).toBe(expected));

	it('as JSON, also those of one name', () => {
		const columns = [{ name: 'a', values: [1, null] }, { name: 'a', values: new Float64Array([3, 4]) }];
		expect(JSON.parse(toJson(columns))).toEqual({ columns: ['a', 'a'], rows: [[1, 3], [null, 4]] });
		expect(rowCount(columns)).toBe(2);
	});
});
