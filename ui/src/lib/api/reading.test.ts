import { describe, expect, it } from 'vitest';
import { extentsOf } from '$lib/chart/points';
import { durationTicks, linear, timeTicks } from '$lib/chart/scale';
import { nanosToMillis } from '$lib/format';
import { compareOf } from '$lib/metrics/compare';
import { heatmapOf } from '$lib/metrics/heatmap';
import { marksOf } from '$lib/pages/query/marks';
import { rowsOf, sortRows, stepSeconds } from '$lib/metrics/series';
import { spanTable } from '$lib/pages/query/spans';
import { SORT_KEYS, sortTraces } from '$lib/traces/sort';
import { buildModel } from '$lib/pages/trace/model';
import { ticks } from '$lib/pages/trace/scale';
import {
	attributeKeysAnswer,
	attributeValuesAnswer,
	findAnswer,
	operationsAnswer,
	queryCheck,
	savedQueriesAnswer,
	searchAnswer,
	servicesAnswer,
	statusAnswer
} from './reading';
import { metricsAnswer } from './readingMetrics';
import { compactTrace, spanDetail } from './readingTrace';

/** What a field may hold instead of what it should. */
const HOSTILE: unknown[] = [undefined, null, '', 'x', -1, Number.MAX_VALUE, '1e999', true, [], [null], {}, { a: 1 }, '9'.repeat(40)];

const span = { spanId: '01', name: 'n', serviceName: 's', startTimeUnixNano: '1795340698000000000', durationNanos: 5, status: 'ok', fields: [{ key: 'k', type: 'int', value: 1 }] };
const search = {
	traces: [
		{
			traceId: 'a',
			rootServiceName: 's',
			rootSpanName: 'n',
			startTimeUnixNano: '1795340698000000000',
			durationNanos: 5,
			spanCount: 2,
			errorCount: 1,
			rootMissing: false,
			services: [{ name: 's', spanCount: 2, errorCount: 1 }],
			matchedCount: 1,
			spansets: [{ by: [], aggregates: [], matchedCount: 1, spans: [span] }]
		}
	],
	complete: false,
	partialReason: 'late',
	inspected: { spans: 1, files: 2, filesTotal: 3, bytes: 4 },
	elapsedNanos: 5
};
const trace = {
	traceId: 'a',
	spanCount: 2,
	returned: 2,
	complete: true,
	partialReason: null,
	startTimeUnixNano: '1795340698000000000',
	durationNanos: 10,
	rootServiceName: 's',
	rootSpanName: 'n',
	errorCount: 0,
	duplicates: 0,
	services: ['s'],
	names: ['n', 'm'],
	spans: {
		id: ['01', '01'],
		parent: [-1, 0],
		start: [0, 1],
		duration: [10, 5],
		service: [0, 0],
		name: [0, 1],
		kind: [3, 2],
		status: [0, 2],
		events: [0, 0],
		links: [0, 0],
		exception: [0, 0]
	}
};
const detail = {
	traceId: 'a',
	spanId: '01',
	parentSpanId: '',
	name: 'n',
	serviceName: 's',
	kind: 'server',
	status: { code: 'error', message: 'm' },
	startTimeUnixNano: '1795340698000000000',
	durationNanos: 5,
	attributes: [{ key: 'k', type: 'string', value: 'v' }],
	resource: { attributes: [], schemaUrl: 'u', droppedAttributesCount: 0 },
	scope: { name: 'n', version: '1', attributes: [], schemaUrl: '', droppedAttributesCount: 0 },
	events: [{ timeUnixNano: '1795340698000000001', name: 'e', attributes: [], droppedAttributesCount: 0 }],
	links: [{ traceId: 'b', spanId: '02', traceState: '', flags: 0, attributes: [], droppedAttributesCount: 0 }],
	traceState: '',
	flags: 1,
	droppedAttributesCount: 0,
	droppedEventsCount: 0,
	droppedLinksCount: 0,
	adjustedCount: 4,
	marks: ['own_parent']
};
const metrics = {
	startTimeUnixNano: '1795340698000000000',
	stepNanos: 1e9,
	steps: 2,
	series: [
		{
			labels: [{ key: 'p', type: 'double', value: 0.5 }],
			values: [1, 'Infinity'],
			exemplars: [{ traceId: 'a', spanId: '01', timeUnixNano: '1795340698000000000', value: 0.1 }]
		}
	],
	weighting: { spans: 1, spansOfUnknownProbability: 1 },
	complete: true,
	partialReason: null,
	inspected: { spans: 1, files: 2, filesTotal: 3, bytes: 4 },
	elapsedNanos: 5
};

/** Every answer that differs from a good one in one field, however deep, and every one that lacks it. */
function* spoiled(good: unknown): Generator<unknown> {
	for (const value of HOSTILE) yield value;
	if (typeof good !== 'object' || good === null) return;
	for (const key of Object.keys(good)) {
		for (const part of spoiled((good as Record<string, unknown>)[key])) {
			const copy = structuredClone(good) as Record<string, unknown>;
			copy[key] = structuredClone(part);
			yield copy;
		}
	}
}

/** No field that is nothing, no number that is none; only the values of time series may be NaN or infinite. */
function assertWhole(value: unknown, path: string): void {
	if (value === undefined) throw new Error(`${path} is missing`);
	if (typeof value === 'number' && !Number.isFinite(value) && !/\.values|exemplars/.test(path)) throw new Error(`${path} is ${value}`);
	if (typeof value !== 'object' || value === null || path.endsWith('.value')) return;
	for (const [key, part] of Object.entries(value)) assertWhole(part, `${path}.${key}`);
}

describe('a good answer', () => {
	it('is read as it is', () => {
		expect(searchAnswer(search)).toMatchObject(search);
		expect(compactTrace(structuredClone(trace), 'a')).toEqual(trace);
		expect(spanDetail(detail)).toEqual(detail);
		const read = metricsAnswer(metrics);
		expect(read).toMatchObject({ ...metrics, series: [{ labels: metrics.series[0]!.labels }] });
		expect(read.series[0]!.values).toEqual([1, Infinity]);
	});
});

describe('an answer with a field missing or wrong', () => {
	it('of a search is whole all the same, and can be drawn', () => {
		for (const given of spoiled(search)) {
			const { traces, ...rest } = searchAnswer(given);
			assertWhole({ traces, ...rest }, 'search');
			for (const key of SORT_KEYS) sortTraces(traces, { key, descending: true });
			const columns = {
				times: traces.map((one) => nanosToMillis(one.startTimeUnixNano)),
				durations: traces.map((one) => one.durationNanos),
				sizes: [],
				marked: []
			};
			const { time, duration } = extentsOf(columns);
			expect(durationTicks(duration).length + timeTicks(time, 8).values.length).toBeLessThan(700);
			for (const one of columns.times) expect(linear(time.low, time.high, 0, 10).at(one)).not.toBeNaN();
			spanTable(traces);
		}
	});

	it('of a trace is whole all the same, and its spans make a tree', () => {
		for (const given of spoiled(trace)) {
			const read = compactTrace(given, 'asked');
			assertWhole(read, 'trace');
			expect(read.traceId).not.toBe('');
			const { tree, totalNanos } = buildModel(read);
			expect([...tree.order].sort((a, b) => a - b)).toEqual(Array.from({ length: tree.nodeCount }, (_, node) => node));
			const { values } = ticks({ from: 0, to: totalNanos }, 8);
			expect(values.length).toBeLessThan(20);
			BigInt(read.startTimeUnixNano);
		}
	});

	it('of a span is whole all the same', () => {
		for (const given of spoiled(detail)) {
			const read = spanDetail(given);
			assertWhole(read, 'span');
			for (const event of read.events) BigInt(event.timeUnixNano);
		}
	});

	it('of time series is whole all the same, and can be drawn', () => {
		for (const given of spoiled(metrics)) {
			const read = metricsAnswer(given);
			assertWhole(read, 'metrics');
			expect(stepSeconds(read)).toHaveLength(read.steps);
			for (const { values } of read.series) expect(values).toHaveLength(read.steps);
			const rows = rowsOf(read.series);
			for (const key of ['label', 'last', 'avg'] as const) sortRows(rows, { key, descending: false });
			for (const unit of ['seconds', 'count'] as const) marksOf(read, rows.map(({ index }) => index), unit);
			compareOf(read.series);
			heatmapOf(read.series, read.steps);
		}
	});

	it.each([
		['services', servicesAnswer, { services: [{ name: 'a' }], complete: false }],
		['operations', operationsAnswer, { operations: ['a'], complete: false }],
		['keys', attributeKeysAnswer, { keys: [{ scope: 'span', key: 'a' }], complete: false }],
		['values', attributeValuesAnswer, { values: [{ type: 'string', value: 'a' }], complete: true }],
		['check', queryCheck, { valid: false, error: { message: 'm', start: 1, end: 2, expected: ['a'], suggestion: 'b' } }],
		['found spans', findAnswer, { indices: [1], total: 1 }],
		['status', statusAnswer, { version: '1', tenant: 't', spansStored: 1, spansHot: 1, files: 1, bytesStored: 1, uptimeNanos: 1, ingestSpansPerSecond: 1, troubles: ['a'] }]
	])('of %s is whole all the same', (name, read, good) => {
		expect(read(good)).toEqual(good);
		for (const given of spoiled(good)) assertWhole(read(given), name);
	});

	it('keeps the spans whose column is short or missing', () => {
		const { duration, ...spans } = trace.spans;
		expect(duration).toHaveLength(2);
		const read = compactTrace({ ...trace, spans: { ...spans, name: [1] } }, 'a');
		expect(read.spans).toMatchObject({ id: ['01', '01'], duration: [0, 0], name: [1, -1] });
	});
});

describe('what may come twice', () => {
	const keysOf = (items: { key: string }[]) => items.map(({ key }) => key);
	const allDiffer = (keys: string[]) => expect(new Set(keys).size).toBe(keys.length);
	const good = search.traces[0]!;

	it('gets keys of its own in a search', () => {
		const services = ['s', 's', '', ''].map((name) => ({ name, spanCount: 1, errorCount: 0 }));
		const { traces } = searchAnswer({ traces: [{ ...good, services }, good, good] });
		allDiffer(keysOf(traces));
		expect(traces[0]!.key).toBe('a');
		allDiffer(keysOf(traces[0]!.services));
	});

	it('gets keys of its own in a table of spans, be it one id thrice in one spanset or in several', () => {
		const set = { by: [], aggregates: [], matchedCount: 3, spans: [span, span, { ...span, name: 'other half' }] };
		const { traces } = searchAnswer({ traces: [{ ...good, spansets: [set, set] }, good] });
		const rows = spanTable(traces).groups.flatMap((group) => group.rows);
		expect(rows).toHaveLength(7);
		allDiffer(keysOf(rows));
	});

	it('gets keys of its own among exemplars', () => {
		const { series } = metricsAnswer({ ...metrics, series: [{ ...metrics.series[0], exemplars: Array(3).fill(metrics.series[0]!.exemplars[0]) }] });
		allDiffer(keysOf(series[0]!.exemplars));
	});

	it('is told once when it is a mark', () => {
		const marks = ['value_cut', 'no_such_mark', 'no_end', 'value_cut'];
		expect([...spanDetail({ ...detail, marks }).marks].sort()).toEqual(['no_end', 'value_cut']);
	});

	it('gives saved queries of one name keys of their own', () => {
		const { queries } = savedQueriesAnswer({ queries: [{ name: 'a' }, { name: 'a' }, {}, null], limit: 5 });
		expect(queries.map(({ name }) => name)).toEqual(['a', 'a', '', '']);
		expect(new Set(queries.map(({ key }) => key)).size).toBe(4);
	});
});
