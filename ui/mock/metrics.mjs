/** Time series from the mock's traces: enough to draw, not what TraceQL would compute to the last digit. */
import { fieldOf, labelOf, traceqlTests } from './data.mjs';

const SPANS_MAX = 40;
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400];
const COMPARED = ['name', 'kind', 'resource.service.name', 'resource.service.version', 'resource.cloud.region', 'span.http.route', 'span.http.response.status_code', 'span.db.system.name'];

function stepSeconds(query, from, to) {
	if (query.get('instant') === 'true') return (to - from) / 1e3;
	const match = /^(\d+)(s|m|h)$/.exec(query.get('step') ?? '');
	if (match) return Number(match[1]) * { s: 1, m: 60, h: 3600 }[match[2]];
	return STEPS.find((seconds) => (to - from) / 1e3 / seconds <= 120) ?? STEPS.at(-1);
}

/** The spans that the query selects, with the step each is in. */
function selected(traces, text, from, to, start, step) {
	const tests = traceqlTests(text);
	const found = [];
	for (const trace of traces) {
		const begin = Number(trace.startNanos / 1000000n);
		if (begin < from || begin >= to) continue;
		for (let index = 0; index < Math.min(trace.spans.length, SPANS_MAX); index += 1) {
			if (tests.every((test) => test(trace.spans[index], trace, index))) {
				found.push({ trace, index, span: trace.spans[index], step: Math.floor((begin - start) / step / 1e3) });
			}
		}
	}
	return found;
}

const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];

function series(labels, spans, steps, valueOf, empty) {
	const perStep = Array.from({ length: steps }, () => []);
	for (const item of spans) perStep[item.step]?.push(item);
	const exemplars = spans.filter((_, at) => at % Math.ceil(spans.length / 40) === 0).map(({ trace, span }) => ({
		traceId: trace.traceId,
		spanId: span.id,
		timeUnixNano: String(trace.startNanos + BigInt(span.start)),
		value: span.duration / 1e9
	}));
	return { labels, values: perStep.map((items) => (items.length === 0 ? empty : valueOf(items))), exemplars };
}

function grouped(spans, by) {
	const groups = new Map();
	for (const item of spans) {
		const values = by.map((field) => fieldOf(field, item.trace, item.index));
		const key = JSON.stringify(values);
		const group = groups.get(key) ?? { labels: by.map((field, at) => labelOf(field, values[at])), spans: [] };
		groups.set(key, group);
		group.spans.push(item);
	}
	return [...groups.values()];
}

function compared(spans, text, steps) {
	const inside = traceqlTests(/compare\(\s*(\{[^}]*\})/.exec(text)[1]);
	const sides = { baseline: [], selection: [] };
	for (const item of spans) sides[inside.every((test) => test(item.span, item.trace, item.index)) ? 'selection' : 'baseline'].push(item);
	const count = (items) => items.length;
	return COMPARED.flatMap((field) =>
		Object.entries(sides).flatMap(([side, items]) => {
			const having = items.filter((item) => fieldOf(field, item.trace, item.index) !== undefined);
			const meta = (name) => labelOf('__meta_type', name);
			const values = grouped(having, [field]).sort((a, b) => b.spans.length - a.spans.length).slice(0, 10);
			const total = series([meta(`${side}_total`), labelOf(field)], having, steps, count, 0);
			return [...values.map((group) => series([meta(side), ...group.labels], group.spans, steps, count, 0)), total];
		})
	);
}

function histogram(spans, steps) {
	const buckets = new Map();
	for (const item of spans) {
		const bound = 2 ** (Math.ceil(4 * Math.log2(Math.max(1, item.span.duration))) / 4) / 1e9;
		buckets.set(bound, [...(buckets.get(bound) ?? []), item]);
	}
	return [...buckets].map(([bound, items]) => series([{ key: '__bucket', type: 'double', value: bound }], items, steps, (list) => list.length, 0));
}

function seriesOf(text, spans, steps, step) {
	if (/compare\(/.test(text)) return compared(spans, text, steps);
	if (/histogram_over_time/.test(text)) return histogram(spans, steps);
	const by = (/by\s*\(([^)]*)\)/.exec(text)?.[1] ?? '').split(',').map((field) => field.trim()).filter(Boolean);
	const quantiles = /quantile_over_time\([^,]+,([^)]*)\)/.exec(text)?.[1].split(',').map(Number);
	const seconds = (items) => items.map((item) => item.span.duration / 1e9).sort((a, b) => a - b);
	return grouped(spans, by).flatMap((group) => {
		if (quantiles) {
			return quantiles.map((q) => series([...group.labels, { key: 'p', type: 'double', value: q }], group.spans, steps, (items) => quantile(seconds(items), q), null));
		}
		if (/max_over_time/.test(text)) return [series(group.labels, group.spans, steps, (items) => Math.max(...seconds(items)), null)];
		return [series(group.labels, group.spans, steps, (items) => items.length / (/rate\(/.test(text) ? step : 1), 0)];
	});
}

/** What the series are, and what is measured. */
export function meaningOf(text) {
	const shape = /compare\(/.test(text) ? 'comparison' : /histogram_over_time/.test(text) ? 'histogram' : 'series';
	const bucketUnit = shape === 'histogram' && /\(\s*(span:)?duration/.test(text) ? 'seconds' : 'plain';
	const unit = /\/|\*/.test(text.replace(/\{[^}]*\}/g, '')) ? 'plain' : /rate\(/.test(text) ? 'perSecond' : /_over_time\(\s*(span:)?duration/.test(text) && shape === 'series' ? 'seconds' : 'count';
	return { shape, unit, bucketUnit };
}

export function metrics(traces, query) {
	const text = query.get('q') ?? '';
	const [from, to] = [Date.parse(query.get('start')), Date.parse(query.get('end'))];
	const step = stepSeconds(query, from, to);
	const start = query.get('instant') === 'true' ? from : Math.floor(from / 1e3 / step) * step * 1e3;
	const steps = Math.max(1, Math.ceil((to - start) / 1e3 / step));
	const spans = selected(traces, text, from, to, start, step);
	const partial = /"cart"/.test(text);
	return {
		startTimeUnixNano: `${Math.round(start)}000000`,
		stepNanos: Math.round(step * 1e9),
		steps,
		...meaningOf(text),
		series: spans.length === 0 ? [] : seriesOf(text, spans, steps, step),
		complete: !partial,
		partialReason: partial ? 'the time limit of 10 s was reached' : null,
		weighting: { spans: spans.length, spansOfUnknownProbability: partial ? Math.floor(spans.length / 3) : spans.length },
		inspected: { spans: 48_200, files: partial ? 3 : 8, filesTotal: 8, bytes: 1_200_000 },
		elapsedNanos: 14_200_000
	};
}

/** A rough reader: brackets that match and words that are known. */
export function check(text) {
	const wrong = (message, start, end, suggestion = null) => ({ valid: false, error: { message, start, end, expected: [], suggestion } });
	if (text.trim() === '') return wrong('the query is empty', 0, 0, '`{ }` selects every span');
	if ((text.match(/\{/g) ?? []).length !== (text.match(/\}/g) ?? []).length) {
		return wrong('the query ends too early, expected an operator or `}`', text.length, text.length);
	}
	const typo = /\bdurations\b/.exec(text);
	if (typo) return wrong('unknown word `durations`, expected an attribute, an intrinsic or a value', typo.index, typo.index + 9, 'did you mean `duration`?');
	const kind = /\|\s*(rate|compare|\w+_over_time)\s*\(/.test(text) ? 'metrics' : 'spans';
	return { valid: true, kind, printed: text.trim().replace(/\s+/g, ' ').replace(/\{(?=\S)/g, '{ ').replace(/(?<=\S)\}/g, ' }').replace(/ ?(!=|>=|<=|=) ?/g, ' $1 ') };
}
