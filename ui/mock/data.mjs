/** The traces the mock serves, newest first, and how it answers questions about them. */
import { spanDetail } from './detail.mjs';
import { Random } from './random.mjs';
import { batchTrace, orphanedTrace, ROOTS, shopTrace } from './shop.mjs';

export function makeTraces(nowMillis, seed = 42) {
	const random = new Random(seed);
	const traces = [
		batchTrace(random, nowMillis - 9 * 60_000, 100_000),
		batchTrace(random, nowMillis - 14 * 60_000, 10_000),
		orphanedTrace(random, nowMillis - 40_000),
		shopTrace(random, nowMillis - 95_000, 'POST /checkout', { failAt: 'charge card', slowAt: 'charge card', slow: 12 }),
		shopTrace(random, nowMillis - 130_000, 'GET /search', { repeat: 'SELECT prices' })
	];
	let at = nowMillis - 1_500;
	for (let count = 0; count < 600; count += 1) {
		const operation = random.pick(ROOTS);
		const failAt = random.chance(0.07) ? random.pick(['charge card', 'SELECT stock', 'model.predict', 'SELECT products']) : undefined;
		const slowAt = random.chance(0.05) ? random.pick(['SELECT products', 'charge card', 'fraud.score']) : undefined;
		traces.push(shopTrace(random, at, operation, { failAt, slowAt, slow: 15 }));
		at -= random.lognormal(7_000, 0.8);
	}
	return traces.sort((a, b) => (a.startNanos < b.startNanos ? 1 : -1));
}

function durationOf(text) {
	const match = /^([\d.]+)(ns|us|ms|s|m|h)$/.exec(text);
	if (!match) return null;
	return Number(match[1]) * { ns: 1, us: 1e3, ms: 1e6, s: 1e9, m: 6e10, h: 3.6e12 }[match[2]];
}

function timeOf(text, fallback) {
	if (!text) return fallback;
	if (/^\d+(\.\d+)?$/.test(text)) return Number(text) < 1e12 ? Number(text) * 1e3 : Number(text) / 1e6;
	return Date.parse(text);
}

/** `key op value` as a test of a span's attributes. */
function attributeTest(text) {
	const match = /^([^\s=!<>~]+)\s*(=~|!~|!=|>=|<=|=|>|<)\s*(.*)$/.exec(text);
	if (!match) throw new Error(`attr=${text}: expected key, operator and value, such as http.route=/cart`);
	const [, rawKey, operator, wanted] = match;
	const key = rawKey.replace(/^(span|resource)\./, '');
	const compare = {
		'=': (value) => value === wanted,
		'!=': (value) => value !== wanted,
		'>': (value) => Number(value) > Number(wanted),
		'>=': (value) => Number(value) >= Number(wanted),
		'<': (value) => Number(value) < Number(wanted),
		'<=': (value) => Number(value) <= Number(wanted),
		'=~': (value) => new RegExp(`^(?:${wanted})$`).test(value),
		'!~': (value) => !new RegExp(`^(?:${wanted})$`).test(value)
	}[operator];
	return (detail) =>
		[...detail.attributes, ...detail.resource.attributes].some((item) => item.key === key && compare(String(item.value)));
}

const STATUS = { unset: 0, ok: 1, error: 2 };
const KIND = { internal: 1, server: 2, client: 3, producer: 4, consumer: 5 };

function spanTests(query) {
	const tests = [];
	const plain = (name, test) => query.get(name) && tests.push(test(query.get(name)));
	plain('service', (wanted) => (span) => span.service === wanted);
	plain('operation', (wanted) => (span) => span.name === wanted);
	plain('status', (wanted) => (span) => span.status === STATUS[wanted]);
	plain('kind', (wanted) => (span) => span.kind === KIND[wanted]);
	for (const [name, sign] of [
		['minDuration', 1],
		['maxDuration', -1]
	]) {
		if (!query.get(name)) continue;
		const limit = durationOf(query.get(name));
		if (limit === null) throw new Error(`${name}: \`${query.get(name)}\` is no duration; write it like 12.5ms or 2s`);
		tests.push((span) => sign * (span.duration - limit) >= 0);
	}
	for (const text of query.getAll('attr')) {
		const test = attributeTest(text);
		tests.push((span, trace, index) => test(spanDetail(trace, index, trace.traceId)));
	}
	const traceql = query.get('q');
	if (traceql !== null) tests.push(...traceqlTests(traceql));
	return tests;
}

/** Enough of TraceQL to look at the page with: conjunctions of simple comparisons in the last braces before a pipe. */
export function traceqlTests(text) {
	const inner = /^[^|]*?\{([^{}]*)\}\s*(?:$|\|)/s.exec(text.replace(/^.*(?:>>|>)\s*(?=\{)/s, ''));
	if (!inner) throw new Error('line 1, column 1: expected `{`, a query is a spanset such as { status = error }');
	return inner[1]
		.split('&&')
		.map((term) => term.trim())
		.filter(Boolean)
		.map((term) => {
			const match = /^(\S+)\s*(=~|!~|!=|>=|<=|=|>|<)\s*"?(.*?)"?$/.exec(term);
			if (!match) throw new Error(`expected a comparison, found \`${term}\``);
			const [, key, operator, value] = match;
			if (value === 'nil') {
				const plain = key.replace(/^\.|^(span|resource)\./, '');
				const has = (span, trace, index) => spanDetail(trace, index, '').attributes.some((item) => item.key === plain);
				return operator === '=' ? (...args) => !has(...args) : has;
			}
			if (key === 'kind') return (span) => span.kind === KIND[value];
			if (key === 'duration') return (span) => (operator.startsWith('>') ? span.duration >= durationOf(value) : span.duration <= durationOf(value));
			if (key === 'status') return (span) => span.status === STATUS[value];
			if (key === 'name') return (span) => span.name === value;
			if (key === 'resource.service.name') return (span) => span.service === value;
			const test = attributeTest(`${key.replace(/^\./, '')}${operator}${value}`);
			return (span, trace, index) => test(spanDetail(trace, index, trace.traceId));
		});
}

/** What a span has in a field of TraceQL; undefined when it has none. */
export function fieldOf(field, trace, index) {
	const span = trace.spans[index];
	const known = { name: span.name, duration: span.duration / 1e9, status: ['unset', 'ok', 'error'][span.status], kind: Object.keys(KIND)[span.kind - 1], rootName: trace.spans[0].name, 'resource.service.name': span.service }[field.replace(/^span:/, '')];
	if (known !== undefined) return known;
	const key = field.replace(/^\.|^(span|resource)\./, '');
	const detail = spanDetail(trace, index, '');
	return [...detail.attributes, ...detail.resource.attributes].find((item) => item.key === key)?.value;
}

export const labelOf = (key, value) => ({ key, type: value === undefined ? 'empty' : typeof value === 'number' ? 'int' : typeof value === 'boolean' ? 'bool' : 'string', value: value ?? null });

/** What traces are ordered by. */
const RANKS = {
	start: (one, other) => Number(BigInt(one.startTimeUnixNano) - BigInt(other.startTimeUnixNano)),
	root: (one, other) => `${one.rootServiceName} ${one.rootSpanName}`.localeCompare(`${other.rootServiceName} ${other.rootSpanName}`),
	duration: (one, other) => one.durationNanos - other.durationNanos,
	spans: (one, other) => one.spanCount - other.spanCount,
	errors: (one, other) => one.errorCount - other.errorCount
};

/** All that match, newest first; `most` ends it early. */
function matching(traces, query, nowMillis, most) {
	const tests = spanTests(query);
	const from = timeOf(query.get('start'), nowMillis - 3_600_000);
	const to = timeOf(query.get('end'), nowMillis);
	const found = [];
	let inspected = 0;
	for (const trace of traces) {
		const start = Number(trace.startNanos / 1000000n);
		if (start < from || start > to) continue;
		const hits = [];
		const considered = tests.length > 0 ? Math.min(trace.spans.length, 3000) : 1;
		inspected += considered;
		for (let index = 0; index < considered; index += 1) {
			const span = trace.spans[index];
			if (tests.every((test) => test(span, trace, index))) hits.push(index);
		}
		if (hits.length > 0) found.push(summary(trace, hits, query));
		if (found.length === most) break;
	}
	const partial = query.get('service') === 'ads' || /"ads"/.test(query.get('q') ?? '');
	const covered = {
		complete: !partial,
		partialReason: partial ? 'the time limit of 10 s was reached' : null,
		inspected: { spans: inspected, files: partial ? 3 : 8, filesTotal: 8, bytes: inspected * 28 },
		elapsedNanos: 4_200_000
	};
	return { found, covered };
}

/** So often one comes. */
const TAIL_MILLIS = 150;

export function search(traces, query, nowMillis) {
	const limit = Math.min(1000, Number(query.get('limit') ?? 20));
	const [, minus, key] = /^(-?)(\w+)$/.exec(query.get('sort') ?? '-start');
	const isNewest = key === 'start' && minus === '-';
	const { found, covered } = matching(traces, query, nowMillis, isNewest ? limit : Infinity);
	if (!isNewest) found.sort((one, other) => (minus === '-' ? RANKS[key](other, one) : RANKS[key](one, other)));
	const tracesMatched = isNewest && found.length >= limit ? null : found.length;
	return { traces: found.slice(0, limit), tracesMatched, ...covered };
}

export function count(traces, query, nowMillis) {
	const { found, covered } = matching(traces, query, nowMillis, Infinity);
	return { traces: found.length, ...covered };
}

/** The matching spans, in groups if the query says `by()`, with the fields that it names. */
function spansetsOf(trace, hits, query) {
	const text = query.get('q') ?? '';
	const by = /\|\s*by\(\s*([^)]+?)\s*\)/.exec(text)?.[1];
	const fields = [...new Set([...text.matchAll(/(?:span|resource)\.[\w.]+/g)].map(([field]) => field))].filter((field) => field !== by);
	const groups = new Map();
	for (const index of hits) {
		const value = by === undefined ? '' : fieldOf(by, trace, index);
		groups.set(value, [...(groups.get(value) ?? []), index]);
	}
	return [...groups].map(([value, indices]) => ({
		by: by === undefined ? [] : [labelOf(by, value)],
		aggregates: [...text.matchAll(/count\(\)/g)].slice(0, 1).map(() => labelOf('count()', indices.length)),
		matchedCount: indices.length,
		spans: indices.slice(0, Number(query.get('spans') ?? 3)).map((index) => ({
			spanId: trace.spans[index].id,
			name: trace.spans[index].name,
			serviceName: trace.spans[index].service,
			startTimeUnixNano: String(trace.startNanos + BigInt(trace.spans[index].start)),
			durationNanos: trace.spans[index].duration,
			status: ['unset', 'ok', 'error'][trace.spans[index].status],
			...(query.has('targets') && trace.spans[index].target && { target: trace.spans[index].target }),
			fields: fields.map((field) => labelOf(field, fieldOf(field, trace, index))).filter((field) => field.value !== null)
		}))
	}));
}

function summary(trace, hits, query) {
	const services = new Map();
	for (const span of trace.spans) {
		const share = services.get(span.service) ?? { name: span.service, spanCount: 0, errorCount: 0 };
		share.spanCount += 1;
		if (span.status === 2) share.errorCount += 1;
		services.set(span.service, share);
	}
	const root = trace.spans[0];
	return {
		traceId: trace.traceId,
		rootServiceName: root.service,
		rootSpanName: root.name,
		...(query.has('targets') && root.target && { rootTarget: root.target }),
		startTimeUnixNano: String(trace.startNanos),
		durationNanos: trace.durationNanos,
		spanCount: trace.spans.length,
		errorCount: trace.errorCount,
		rootMissing: false,
		services: [...services.values()],
		matchedCount: hits.length,
		spansets: spansetsOf(trace, hits, query)
	};
}

export function compact(trace) {
	const services = [...new Set(trace.spans.map((span) => span.service))];
	const names = [...new Set(trace.spans.map((span) => span.name))];
	const serviceIndex = new Map(services.map((name, index) => [name, index]));
	const nameIndex = new Map(names.map((name, index) => [name, index]));
	const column = (key) => trace.spans.map((span) => span[key]);
	// As the server tells it of calls whose names say less.
	const targets = trace.spans.map((span) => span.target ?? '');
	const targetTexts = [...new Set(targets)].filter((text) => text !== '');
	return {
		traceId: trace.traceId,
		spanCount: trace.spans.length,
		returned: trace.spans.length,
		complete: true,
		partialReason: null,
		startTimeUnixNano: String(trace.startNanos),
		durationNanos: trace.durationNanos,
		rootServiceName: trace.spans[0].service,
		rootSpanName: trace.spans[0].name,
		errorCount: trace.errorCount,
		duplicates: 0,
		services,
		names,
		...(targetTexts.length > 0 && { targets: targetTexts }),
		spans: {
			...(targetTexts.length > 0 && { target: targets.map((text) => targetTexts.indexOf(text)) }),
			id: column('id'),
			parent: column('parent'),
			...(trace.spans.some((span) => span.parent === -2) && { parentId: trace.spans.map((span) => span.parentId ?? '') }),
			start: column('start'),
			duration: column('duration'),
			service: trace.spans.map((span) => serviceIndex.get(span.service)),
			name: trace.spans.map((span) => nameIndex.get(span.name)),
			kind: column('kind'),
			status: column('status'),
			events: column('events'),
			links: column('links'),
			exception: column('exception')
		}
	};
}

export function find(trace, text) {
	const wanted = text.toLowerCase();
	const indices = [];
	for (let index = 0; index < trace.spans.length && indices.length < 5000; index += 1) {
		const span = trace.spans[index];
		const own = `${span.name}\n${span.service}\n${span.id}`.toLowerCase();
		const deep = () => JSON.stringify(spanDetail(trace, index, '').attributes).toLowerCase();
		if (own.includes(wanted) || (trace.spans.length < 2000 && deep().includes(wanted))) indices.push(index);
	}
	return { indices, total: indices.length };
}

/** One trace after the other comes again, as if it began now. */
export function tail(traces, query, nowMillis) {
	const [after, limit] = [query.get('after'), Number(query.get('limit') ?? 20)];
	const position = Math.floor(nowMillis / TAIL_MILLIS);
	const { found } = matching(traces, query, nowMillis, Infinity);
	const came = after === null || found.length === 0 ? 0 : Math.min(found.length, Math.max(0, position - Number(after)));
	const numbers = Array.from({ length: came }, (_, back) => position - back);
	const at = (number) => ({ ...found[number % found.length], startTimeUnixNano: `${number * TAIL_MILLIS}000000` });
	return {
		traces: numbers.slice(0, limit).map(at),
		tracesMatched: came,
		tracesBegun: came,
		spansArrived: after === null ? 0 : 40 * Math.max(0, position - Number(after)),
		position: String(position),
		complete: true,
		partialReason: null,
		elapsedNanos: 412_000
	};
}
