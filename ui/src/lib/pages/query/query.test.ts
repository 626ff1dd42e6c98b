import { describe, expect, it, vi } from 'vitest';
import type { Attribute, MetricsAnswer, Series, TraceSummary } from '$lib/api/types';
import { chanceOf, corrected } from '$lib/metrics/chance';
import { compareOf } from '$lib/metrics/compare';
import { conditionOf, withCondition } from '$lib/traceql/edit';
import { askedBy, describeQuery } from './describe';
import { EXAMPLES } from './examples';
import { heatmapOf, namesOf, ticksOf, type Heatmap } from '$lib/metrics/heatmap';
import { pastQueries } from '$lib/stores/remembered';
import { marksOf } from './marks';
import {
	formatStep,
	formatValue,
	rowsOf,
	SERIES_DRAWN_MAX,
	seriesLabel,
	sortRows,
	stepSeconds
} from '$lib/metrics/series';
import { spanColumns } from './exported';
import { fieldValue, spanTable } from './spans';
import { parser } from '$lib/traceql/parser.generated';

const label = (key: string, value: unknown, type: Attribute['type'] = 'string'): Attribute => ({ key, type, value });
const series = (labels: Attribute[], values: (number | null)[]): Series => ({ labels, values, exemplars: [] });

describe('what a query will give', () => {
	it.each([
		['{ }', 'spans', false],
		['{ } | by(name) | count() > 2', 'spans', false],
		['{ .rate = 1 || name = "rate()" } // | rate()', 'spans', false],
		['{ } | rate() by (name)', 'metrics', false],
		['{ } | histogram_over_time(duration)', 'metrics', false],
		['{ } | compare({ status = error })', 'metrics', true],
		['({ status = error } | rate()) / ({ } | rate())', 'metrics', false]
	])('%s', (query, kind, isComparison) => {
		expect(describeQuery(query)).toEqual({ kind, isComparison });
	});

	it.each([
		['{ } | compare({ status = error })', '{ .a = 1 } | compare({ status = error })'],
		['{ name = "}" } | rate()', '{ name = "}" && .a = 1 } | rate()'],
		['{ .b || .c }', '{ (.b || .c) && .a = 1 }'],
		['', '{ .a = 1 }']
	])('adds a condition to %s', (query, expected) => {
		expect(withCondition(query, '.a = 1')).toBe(expected);
	});

	it('has examples that are TraceQL', () => {
		for (const { query } of EXAMPLES) {
			let failed = false;
			parser.parse(query).iterate({ enter: (node) => void (failed ||= node.type.isError) });
			expect(failed, query).toBe(false);
		}
	});
});

describe('series', () => {
	it.each([
		[[], 'all spans'],
		[[label('name', 'GET /cart')], 'GET /cart'],
		[[label('name', null, 'empty')], 'nil'],
		[[label('p', 0.99, 'double')], 'p99'],
		[[label('name', 'GET'), label('p', 0.999, 'double')], 'GET · p99.9'],
		[[label('name', 'GET'), label('span.code', 200, 'int')], 'name=GET · span.code=200']
	])('%j is called %s', (labels, text) => {
		expect(seriesLabel(labels as Attribute[])).toBe(text);
	});

	it('are summed up without the steps that have no value', () => {
		const [row] = rowsOf([series([], [null, 2, 4, null])]);
		expect(row).toMatchObject({ last: 4, min: 2, max: 4, avg: 3 });
		expect(rowsOf([series([], [null])])[0]).toMatchObject({ last: null, min: null, max: null, avg: null });
	});

	it('are sorted, those without a value last', () => {
		const rows = rowsOf([
			series([label('n', 'b')], [1]),
			series([label('n', 'a')], [null]),
			series([label('n', 'c')], [3])
		]);
		const order = (key: 'label' | 'avg', descending: boolean) =>
			sortRows(rows, { key, descending }).map((row) => row.label);
		expect(order('avg', true)).toEqual(['c', 'b', 'a']);
		expect(order('avg', false)).toEqual(['b', 'c', 'a']);
		expect(order('label', false)).toEqual(['a', 'b', 'c']);
	});

	it('are drawn up to a limit, the largest of them', () => {
		const rows = rowsOf(Array.from({ length: 80 }, (_, index) => series([label('n', String(index))], [index])));
		expect(rows.filter(({ line }) => line !== null)).toHaveLength(SERIES_DRAWN_MAX);
		expect([rows[29]!.line, rows[30]!.line, rows[79]!.line]).toEqual([null, 0, 49]);
	});

	it('begin where the answer says, to the microsecond', () => {
		const answer = { startTimeUnixNano: '1769860800123456789', stepNanos: 5e8, steps: 3 } as MetricsAnswer;
		expect(stepSeconds(answer)).toEqual([1769860800.123456, 1769860800.623456, 1769860801.123456]);
	});

	it.each([
		[0.0123, 'seconds', '12.3 ms'],
		[0, 'seconds', '0'],
		[1234567, 'count', '1.23M'],
		[0.5, 'perSecond', '0.5/s'],
		[null, 'count', '–'],
		[-3.14159, 'plain', '-3.14'],
		[0.00028, 'perSecond', '0.00028/s'],
		[0.00000012, 'plain', '1.2e-7']
	] as const)('%s in %s is written %s', (value, unit, text) => {
		expect(formatValue(value, unit)).toBe(text);
	});

	it.each([
		[30e9, '30s'],
		[60e9, '1m'],
		[90e9, '90s'],
		[86_400e9, '1d'],
		[5e8, '500ms']
	])('a step of %d ns is %s', (nanos, text) => expect(formatStep(nanos)).toBe(text));
});

describe('exemplars in a plot', () => {
	const exemplar = (spanId: string, seconds: number, value: number) => ({
		key: spanId,
		traceId: 't',
		spanId,
		timeUnixNano: `${1_769_860_800 + seconds}000000000`,
		value
	});
	const answer = {
		startTimeUnixNano: '1769860800000000000',
		stepNanos: 60e9,
		steps: 10,
		series: [
			{
				...series([], [5, null, 7]),
				exemplars: [exemplar('a', 10, 0.2), exemplar('b', 70, 0.3), exemplar('c', 130, 0.4)]
			}
		]
	} as unknown as MetricsAnswer;

	it('stand at their own duration, and ride on the line of a rate', () => {
		const own = marksOf(answer, [0], 'seconds');
		expect(own.map((mark) => [mark.exemplar.spanId, mark.seconds - 1_769_860_800, mark.value])).toEqual([
			['a', 10, 0.2],
			['b', 70, 0.3],
			['c', 130, 0.4]
		]);
		const riding = marksOf(answer, [0], 'perSecond');
		expect(riding.map((mark) => [mark.exemplar.spanId, mark.seconds - 1_769_860_800, mark.value])).toEqual([
			['a', 0, 5],
			['c', 120, 7]
		]);
	});

	it('make room for the largest where many are at one place', () => {
		const crowd = Array.from({ length: 50 }, (_, index) => exemplar(String(index), 10, 0.2 + index / 10_000));
		const marks = marksOf({ ...answer, series: [{ ...answer.series[0]!, exemplars: crowd }] }, [0], 'seconds');
		expect(marks.map((mark) => mark.exemplar.spanId)).toEqual(['49']);
	});
});

describe('compare()', () => {
	const meta = (kind: string) => label('__meta_type', kind);
	const answer = [
		series([meta('baseline'), label('resource.cloud.region', 'eu')], [40, 50]),
		series([meta('baseline'), label('resource.cloud.region', 'us')], [10, null]),
		series([meta('selection'), label('resource.cloud.region', 'us')], [8, 1]),
		series([meta('selection'), label('resource.cloud.region', 'eu')], [1, 0]),
		series([meta('baseline_total'), label('resource.cloud.region', null, 'empty')], [50, 50]),
		series([meta('selection_total'), label('resource.cloud.region', null, 'empty')], [9, 1]),
		series([meta('baseline'), label('name', 'GET')], [100]),
		series([meta('selection'), label('name', 'GET')], [10])
	];

	it('gives shares, largest difference first', () => {
		const { differences, selectionTotal, baselineTotal } = compareOf(answer);
		expect([selectionTotal, baselineTotal]).toEqual([10, 100]);
		expect(differences.map((item) => item.field)).toEqual(['resource.cloud.region', 'name']);
		const [region] = differences;
		expect(region!.difference).toBeCloseTo(0.8);
		const us = region!.values.find((item) => item.text === 'us')!;
		expect([us.selection, us.baseline]).toEqual([0.9, 0.1]);
		expect(differences[1]!.difference).toBe(0);
	});

	it('adds up what several tenants answered, each for itself', () => {
		const of = (tenant: string) => answer.map((one) => ({ ...one, labels: [...one.labels, { key: 'tenant', type: 'string' as const, value: tenant }] }));
		const [alone, both] = [compareOf(answer), compareOf([...of('a'), ...of('b')])];
		expect([both.selectionTotal, both.baselineTotal]).toEqual([2 * alone.selectionTotal, 2 * alone.baselineTotal]);
		const counts = ({ differences }: typeof alone) => differences.map(({ values }) => values.map((value) => value.baselineCount));
		expect(counts(both)).toEqual(counts(alone).map((values) => values.map((count) => 2 * count)));
	});

	it('takes what always goes together for one', () => {
		const again = answer
			.filter(({ labels }) => labels.some(({ key }) => key === 'resource.cloud.region'))
			.map((one) => ({ ...one, labels: one.labels.map((each) => (each.key === 'resource.cloud.region' ? { ...each, key: 'span.zone' } : each)) }));
		const { differences } = compareOf([...answer, ...again]);
		expect(differences.map(({ field, alsoAs }) => [field, alsoAs])).toEqual([
			['resource.cloud.region', ['span.zone']],
			['name', []]
		]);
	});

	it('tells what differs from what may be chance', () => {
		const { differences } = compareOf(answer);
		expect(differences[0]!.chance).toBeLessThan(1e-6);
		expect(differences[1]!.chance).toBe(1);
	});

	// By Python: math.erfc(z / math.sqrt(2)) of a z with the pooled variance.
	it.each([
		[15, 100, 30, 100, 0.0110852],
		[1, 10, 1, 10, 1],
		[0, 50, 2, 50, 1],
		[5, 5, 0, 0, 1],
		[500, 1000, 480, 1000, 0.3709977]
	])('%i of %i and %i of %i', (count, total, other, otherTotal, chance) => {
		expect(chanceOf(count, total, other, otherTotal)).toBeCloseTo(chance, 6);
	});

	it.each([
		[[], []],
		[[0.01, 0.04, 0.03, 0.005], [0.02, 0.04, 0.04, 0.02]],
		[[1, 0.02], [1, 0.04]]
	])('corrects %j', (chances, expected) => {
		corrected(chances).forEach((chance, index) => expect(chance).toBeCloseTo(expected[index]!, 10));
		expect(corrected(chances).length).toBe(expected.length);
	});

	it('makes little of attributes that few spans have', () => {
		const rare = [
			...answer,
			series([meta('baseline'), label('span.db.system', 'mysql')], [2]),
			series([meta('baseline_total'), label('span.db.system', null, 'empty')], [2])
		];
		const found = compareOf(rare).differences.find((item) => item.field === 'span.db.system');
		expect(found!.difference).toBeCloseTo(0.02);
	});

	it.each([
		['resource.a', label('', 'x "y"'), 'resource.a = "x \\"y\\""'],
		['span.code', label('', 200, 'int'), 'span.code = 200'],
		['span:status', label('', 'error'), 'span:status = error'],
		['.a', label('', null, 'empty'), '.a = nil']
	])('%s becomes a condition', (field, value, text) => {
		expect(conditionOf(field, value)).toBe(text);
	});
});

describe('a heatmap', () => {
	const bucket = (bound: number, values: number[]) => series([label('__bucket', bound, 'double')], values);
	const close = (numbers: number[]) => numbers.map((each) => expect.closeTo(each, 6));

	it('fills the buckets that no span fell into', () => {
		const map = heatmapOf([bucket(0.5, [1, 4]), bucket(1, [2, 0]), bucket(0.5, [1, 0])], 2);
		expect(map.bounds).toEqual(close([0.5, 0.5946036, 0.7071068, 0.8408964, 1]));
		expect(map.lows).toEqual(close([0.4204482, 0.5, 0.5946036, 0.7071068, 0.8408964]));
		expect([...map.counts]).toEqual([2, 4, 0, 0, 0, 0, 0, 0, 2, 0]);
		expect([map.max, map.total]).toEqual([4, 8]);
	});

	it('puts what is rare below with the lowest row', () => {
		const map = heatmapOf([bucket(0, [1]), bucket(2 ** -20, [2]), bucket(1, [500]), bucket(2, [500])], 1);
		expect(map.bounds).toHaveLength(5);
		expect([map.lows[0], map.bounds[0], map.counts[0], map.total]).toEqual([0, 1, 503, 1003]);
		expect(namesOf(map, String, false)[0]).toBe('up to 1');
	});

	it('has a row for what measures nothing', () => {
		const map = heatmapOf([bucket(0, [9]), bucket(1, [1])], 1);
		expect([map.lows[0], map.bounds, [...map.counts]]).toEqual([0, [0, 1], [9, 1]]);
		expect(namesOf(map, String, false)).toEqual(['0 or less', `${map.lows[1]} to 1`]);
		expect(heatmapOf([bucket(0, [9])], 1)).toMatchObject({ bounds: [0], total: 9 });
		expect(heatmapOf([], 1)).toMatchObject({ bounds: [], total: 0 });
	});

	it('names short durations by the whole nanoseconds that they may be', () => {
		const bounds = [0, 1, 1.19, 1.41, 1.68, 2, 2.38, 4, 4.76].map((nanos) => nanos / 1e9);
		const lows = [0, 0.84e-9, ...bounds.slice(1, -3), 3.36e-9, 4e-9];
		const names = namesOf({ lows, bounds } as Heatmap, (seconds) => `${seconds * 1e9} ns`, true);
		expect(names).toEqual(['0 ns', '1 ns', 'between 1 and 2 ns', 'between 1 and 2 ns', 'between 1 and 2 ns', '2 ns', 'between 2 and 3 ns', '4 ns', 'between 4 and 5 ns']);
	});

	it('marks round values where they are', () => {
		const map = heatmapOf([bucket(2 ** -4, [500]), bucket(2 ** 7, [500])], 1);
		expect([map.bounds.length, ticksOf(map, false)]).toEqual([
			45,
			[0.1, 1, 10, 100].map((value) => ({ value, at: expect.closeTo(1 + 4 * (Math.log2(value) + 4), 9) }))
		]);
		expect(ticksOf(map, true).map(({ value }) => value)).toEqual([0.1, 1, 10, 60]);
		expect(ticksOf(heatmapOf([], 1), true)).toEqual([]);
		expect(ticksOf(heatmapOf([bucket(0, [9]), bucket(1, [1])], 1), false)).toEqual([{ value: 1, at: 2 }]);
	});

	it('puts neighbours together rather than leave any out', () => {
		for (const octaves of [10, 19, 20, 40, 200, 2000]) {
			const given = Array.from({ length: octaves + 1 }, (_, power) => bucket(2 ** (power - octaves / 2), [1, 2]));
			const map = heatmapOf(given, 2);
			expect(map.bounds.length).toBeLessThanOrEqual(80);
			expect(map.bounds.length).toBeGreaterThan(15);
			expect(map.bounds.at(-1)).toBe(2 ** (octaves / 2));
			expect(map.counts.reduce((all, count) => all + count, 0)).toBe(3 * (octaves + 1));
		}
	});
});

describe('spans in a table', () => {
	const span = (spanId: string, fields: Attribute[]) =>
		({ spanId, name: 'n', serviceName: 's', startTimeUnixNano: '1', durationNanos: 1, status: 'ok', fields }) as const;
	const traces = [
		{
			traceId: 'a',
			spansets: [
				{
					by: [label('name', 'x')],
					aggregates: [label('count()', 1, 'int')],
					matchedCount: 1,
					spans: [span('1', [label('span.q', 7, 'int')])]
				}
			]
		},
		{
			traceId: 'b',
			spansets: [
				{ by: [label('name', 'y')], aggregates: [], matchedCount: 9, spans: [span('2', [label('span:name', 'n')]), span('3', [])] },
				{ by: [label('name', 'x')], aggregates: [], matchedCount: 1, spans: [span('4', [])] }
			]
		}
	] as unknown as TraceSummary[];

	it('are taken away with every field and what they were grouped by', () => {
		const columns = spanColumns(traces);
		expect(columns.map(({ name }) => name).slice(8)).toEqual(['group', 'count()', 'span.q']);
		const row = (number: number) => columns.map(({ values }) => values[number]);
		expect([row(0)[1], row(0)[8]]).toEqual(['2', 'name = y']);
		expect(row(2).slice(8)).toEqual(['name = x', '1', '7']);
		expect(columns.map(({ values }) => values.length)).toEqual(columns.map(() => 4));
	});

	it('are grouped across traces, and say how many there are', () => {
		const table = spanTable(traces);
		expect(table.groups.map((group) => [group.title, group.matched, group.rows.length])).toEqual([
			['name = y', 9, 2],
			['name = x', 2, 2]
		]);
		expect(table).toMatchObject({ columns: ['count()', 'span.q'], columnsCut: 0, shown: 4, matched: 11 });
		expect(fieldValue(table.groups[1]!.rows[0]!.span.fields, 'span.q')).toBe('7');
	});
});

describe('what is asked', () => {
	it.each([
		['{ status = error }', 'traces', 'spans', '{ status = error }'],
		['{ status = error }', 'spans', 'spans', '{ status = error }'],
		['{ status = error }', 'series', 'metrics', '{ status = error } | rate() by (resource.service.name)'],
		['{ } | count() > 2 with (sample=0.1)', 'series', 'metrics', '{ } | count() > 2 | rate() by (resource.service.name)'],
		['{ } | rate()', 'series', 'metrics', '{ } | rate()']
	] as const)('%s as %s', (q, tab, kind, query) => {
		expect(askedBy({ q, tab })).toMatchObject({ kind, query });
	});
	it('is nothing without a query', () => expect(askedBy({ q: null, tab: 'series' })).toBeNull());
});

describe('the history', () => {
	it('keeps the newest in front, once, and not too many', () => {
		let stored = JSON.stringify(['b', 'a', 'b', 7, null]);
		vi.stubGlobal('localStorage', { getItem: () => stored, setItem: (_: string, value: string) => (stored = value) });
		expect(pastQueries.read()).toEqual(['b', 'a']);
		expect(pastQueries.add(' a ')).toEqual(['a', 'b']);
		expect(pastQueries.add('  ')).toEqual(['a', 'b']);
		for (let index = 0; index < 40; index += 1) pastQueries.add(String(index));
		expect(pastQueries.read()).toHaveLength(20);
		expect(pastQueries.read()[0]).toBe('39');
		vi.stubGlobal('localStorage', undefined);
		expect(pastQueries.add('a')).toEqual(['a']);
		vi.unstubAllGlobals();
	});
});
