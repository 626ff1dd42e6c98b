/**
 * Answers as they are read: every field is there and has its type, and every item of a list has a key of its own. So
 * nothing behind this file meets a field that a server left out, or one name, id or time twice where it must be once.
 */
import { withKeys } from '$lib/keys';
import { attributeScopeValues, queryKindValues, statusCodeValues, valueTypeValues } from './contract.generated';
import type {
	Attribute,
	AttributeKeysAnswer,
	AttributeValuesAnswer,
	FindAnswer,
	MatchedSpan,
	MatchedSpanset,
	OperationsAnswer,
	QueryCheck,
	SavedQueriesAnswer,
	SavedQuery,
	SearchAnswer,
	ServicesAnswer,
	StatusAnswer,
	TailAnswer,
	TraceCount,
	TraceSummary
} from './types';
import { fields, list, nanos, number, numberOrNull, oneOf, text, textOrNull, texts } from './values';

export function attribute(given: unknown): Attribute {
	const { key, type, value = null } = fields(given);
	return { key: text(key), type: oneOf(type, valueTypeValues, value === null ? 'empty' : 'string'), value };
}

export function attributes(given: unknown): Attribute[] {
	return list(given).map(attribute);
}

/** The attributes of whatever has some, and how many of them did not fit. */
export function attributed(given: unknown) {
	const { attributes: kept, droppedAttributesCount } = fields(given);
	return { attributes: attributes(kept), droppedAttributesCount: number(droppedAttributesCount) };
}

/** Whether an answer is all there is, and why it is not. */
export function completeness(given: unknown) {
	const { complete, partialReason } = fields(given);
	return { complete: complete !== false, partialReason: textOrNull(partialReason) };
}

/** How much of what was asked for an answer covers. */
export function covered(given: unknown) {
	const { inspected, elapsedNanos } = fields(given);
	const counts = fields(inspected);
	return {
		...completeness(given),
		inspected: {
			spans: number(counts.spans),
			files: number(counts.files),
			filesTotal: number(counts.filesTotal),
			bytes: number(counts.bytes)
		},
		elapsedNanos: number(elapsedNanos)
	};
}

/** When something began, and how long it took. */
function timed(given: unknown) {
	const { startTimeUnixNano, durationNanos } = fields(given);
	return { startTimeUnixNano: nanos(startTimeUnixNano), durationNanos: number(durationNanos) };
}

/** What a span is in a list and in full. */
export function spanHead(given: unknown) {
	const { spanId, name, serviceName } = fields(given);
	return { spanId: text(spanId), name: text(name), serviceName: text(serviceName), ...timed(given) };
}

/** What a trace is in a list and in full. */
export function traceHead(given: unknown) {
	const { traceId, rootServiceName, rootSpanName, spanCount, errorCount } = fields(given);
	return {
		traceId: text(traceId),
		rootServiceName: text(rootServiceName),
		rootSpanName: text(rootSpanName),
		spanCount: number(spanCount),
		errorCount: number(errorCount),
		...timed(given)
	};
}

function matchedSpan(given: unknown): MatchedSpan {
	const span = fields(given);
	return {
		...spanHead(span),
		status: oneOf(span.status, statusCodeValues, 'unset'),
		...(span.target !== undefined && { target: text(span.target) }),
		fields: attributes(span.fields)
	};
}

function matchedSpanset(given: unknown): MatchedSpanset {
	const set = fields(given);
	const spans = list(set.spans).map(matchedSpan);
	return {
		by: attributes(set.by),
		aggregates: attributes(set.aggregates),
		matchedCount: number(set.matchedCount, spans.length),
		spans
	};
}

function serviceShare(given: unknown) {
	const share = fields(given);
	return { name: text(share.name), spanCount: number(share.spanCount), errorCount: number(share.errorCount) };
}

function traceSummary(given: unknown): Omit<TraceSummary, 'key'> {
	const trace = fields(given);
	return {
		...traceHead(trace),
		...(trace.rootTarget !== undefined && { rootTarget: text(trace.rootTarget) }),
		rootMissing: trace.rootMissing === true,
		services: withKeys(list(trace.services).map(serviceShare), ({ name }) => name),
		matchedCount: number(trace.matchedCount),
		spansets: list(trace.spansets).map(matchedSpanset)
	};
}

const traceSummaries = (given: unknown) => withKeys(list(given).map(traceSummary), ({ traceId }) => traceId);

export function searchAnswer(given: unknown): SearchAnswer {
	const traces = traceSummaries(fields(given).traces);
	return { traces, tracesMatched: numberOrNull(fields(given).tracesMatched), ...covered(given) };
}

export function tailAnswer(given: unknown): TailAnswer {
	const { traces: said, tracesMatched, tracesBegun, spansArrived, position, elapsedNanos } = fields(given);
	const traces = traceSummaries(said);
	const counts = { tracesMatched: number(tracesMatched, traces.length), tracesBegun: number(tracesBegun), spansArrived: number(spansArrived) };
	return { traces, ...counts, position: text(position), ...completeness(given), elapsedNanos: number(elapsedNanos) };
}

export function countAnswer(given: unknown): TraceCount {
	return { traces: number(fields(given).traces), ...covered(given) };
}

export function servicesAnswer(given: unknown): ServicesAnswer {
	const { services, complete } = fields(given);
	return { services: list(services).map((service) => ({ name: text(fields(service).name) })), complete: complete !== false };
}

export function savedQueriesAnswer(given: unknown): SavedQueriesAnswer {
	const { queries, limit } = fields(given);
	return { queries: withKeys(list(queries).map(savedQuery), ({ name }) => name), limit: number(limit) };
}

export function savedQuery(given: unknown): SavedQuery {
	const { name, description, address, savedTimeUnixNano } = fields(given);
	return {
		name: text(name),
		description: text(description),
		address: text(address),
		savedTimeUnixNano: nanos(savedTimeUnixNano)
	};
}

export function operationsAnswer(given: unknown): OperationsAnswer {
	const { operations, complete } = fields(given);
	return { operations: texts(operations), complete: complete !== false };
}

export function attributeKeysAnswer(given: unknown): AttributeKeysAnswer {
	const { keys: all, complete } = fields(given);
	const keys = list(all).map((item) => {
		const { scope, key } = fields(item);
		return { scope: oneOf(scope, attributeScopeValues, 'span'), key: text(key) };
	});
	return { keys: keys.filter(({ key }) => key !== ''), complete: complete !== false };
}

export function attributeValuesAnswer(given: unknown): AttributeValuesAnswer {
	const { values, complete } = fields(given);
	return {
		values: list(values).flatMap((item) => {
			const { type, value } = fields(item);
			return typeof value === 'string' ? [{ type: oneOf(type, valueTypeValues, 'string'), value }] : [];
		}),
		complete: complete !== false
	};
}

export function queryCheck(given: unknown): QueryCheck {
	const check = fields(given);
	if (check.valid !== false)
		return { valid: true, kind: oneOf(check.kind, queryKindValues, 'spans'), printed: text(check.printed) };
	const { message, start, end, expected, suggestion } = fields(check.error);
	const from = Math.max(0, number(start));
	return {
		valid: false,
		error: {
			message: text(message),
			start: from,
			end: Math.max(from, number(end)),
			expected: texts(expected),
			suggestion: textOrNull(suggestion)
		}
	};
}

export function findAnswer(given: unknown): FindAnswer {
	const { indices, total } = fields(given);
	const found = list(indices).filter((index) => Number.isInteger(index)) as number[];
	return { indices: found, total: number(total, found.length) };
}

export function statusAnswer(given: unknown): StatusAnswer {
	const status = fields(given);
	return {
		version: text(status.version),
		tenant: text(status.tenant),
		spansStored: number(status.spansStored),
		spansHot: number(status.spansHot),
		files: number(status.files),
		bytesStored: number(status.bytesStored),
		uptimeNanos: number(status.uptimeNanos),
		ingestSpansPerSecond: number(status.ingestSpansPerSecond),
		troubles: texts(status.troubles)
	};
}
