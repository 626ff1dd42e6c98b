/** A trace and its spans as they are read; see `reading.ts`. */
import { markValues, statusCodeValues } from './contract.generated';
import { attributed, completeness, spanHead, traceHead } from './reading';
import { SPAN_KINDS, type CompactSpans, type CompactTrace, type SpanDetail, type SpanEvent, type SpanLink } from './types';
import { fields, list, nanos, number, numbers, oneOf, text, texts } from './values';

const COLUMNS = ['start', 'duration', 'service', 'name', 'kind', 'status', 'events', 'links', 'exception'] as const;

function compactSpans(given: unknown): CompactSpans {
	const spans = fields(given);
	// A column that is missing or short costs its values, not the spans.
	const count = Math.max(...['id', 'parent', ...COLUMNS].map((column) => list(spans[column]).length));
	const [start, duration, service, name, kind, status, events, links, exception] = COLUMNS.map((column) =>
		numbers(spans[column], count, column === 'service' || column === 'name' ? -1 : 0)
	) as [number[], number[], number[], number[], number[], number[], number[], number[], number[]];
	return {
		id: texts(spans.id, count),
		parent: numbers(spans.parent, count, -1),
		...(Array.isArray(spans.parentId) && { parentId: texts(spans.parentId, count) }),
		...(Array.isArray(spans.target) && { target: numbers(spans.target, count, -1) }),
		start,
		duration,
		service,
		name,
		kind,
		status,
		events,
		links,
		exception
	};
}

/** `askedId` stands in for an id that the answer does not tell. */
export function compactTrace(given: unknown, askedId: string): CompactTrace {
	const trace = fields(given);
	const spans = compactSpans(trace.spans);
	const returned = spans.id.length;
	const head = traceHead(trace);
	return {
		...head,
		traceId: head.traceId || askedId,
		spanCount: number(trace.spanCount, returned),
		returned,
		...completeness(trace),
		duplicates: number(trace.duplicates),
		services: texts(trace.services),
		names: texts(trace.names),
		...(Array.isArray(trace.targets) && { targets: texts(trace.targets) }),
		spans
	};
}

function spanEvent(given: unknown): SpanEvent {
	const event = fields(given);
	return {
		timeUnixNano: nanos(event.timeUnixNano),
		name: text(event.name),
		...attributed(event)
	};
}

function spanLink(given: unknown): SpanLink {
	const link = fields(given);
	return {
		traceId: text(link.traceId),
		spanId: text(link.spanId),
		traceState: text(link.traceState),
		flags: number(link.flags),
		...attributed(link)
	};
}

/** What a resource and a scope have in common. */
function described(given: unknown) {
	return { ...attributed(given), schemaUrl: text(fields(given).schemaUrl) };
}

export function spanDetail(given: unknown): SpanDetail {
	const span = fields(given);
	const [status, scope] = [fields(span.status), fields(span.scope)];
	return {
		...spanHead(span),
		traceId: text(span.traceId),
		parentSpanId: text(span.parentSpanId),
		kind: oneOf(span.kind, SPAN_KINDS, 'unspecified'),
		status: { code: oneOf(status.code, statusCodeValues, 'unset'), message: text(status.message) },
		...attributed(span),
		resource: described(span.resource),
		scope: { name: text(scope.name), version: text(scope.version), ...described(scope) },
		events: list(span.events).map(spanEvent),
		links: list(span.links).map(spanLink),
		traceState: text(span.traceState),
		flags: number(span.flags),
		droppedEventsCount: number(span.droppedEventsCount),
		droppedLinksCount: number(span.droppedLinksCount),
		adjustedCount: Number.isFinite(span.adjustedCount) ? number(span.adjustedCount) : null,
		marks: markValues.filter((mark) => list(span.marks).includes(mark))
	};
}
