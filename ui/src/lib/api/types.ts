/**
 * The native API's answers as the UI reads them. They mirror `/api/v1`; times are nanoseconds since the epoch as
 * decimal strings (a JavaScript number cannot hold them), durations are nanoseconds as numbers.
 */

export type StatusCode = 'unset' | 'ok' | 'error';
export type SpanKind = 'unspecified' | 'internal' | 'server' | 'client' | 'producer' | 'consumer';

/** OTLP's `Span.SpanKind`, by number. */
export const SPAN_KINDS: readonly SpanKind[] = [
	'unspecified',
	'internal',
	'server',
	'client',
	'producer',
	'consumer'
];

export interface ServicesAnswer {
	services: { name: string }[];
}

export interface OperationsAnswer {
	operations: string[];
}

export interface AttributeKeysAnswer {
	keys: { scope: string; key: string }[];
}

export interface AttributeValuesAnswer {
	values: { type: string; value: string | number | boolean }[];
	complete: boolean;
}

export interface ServiceShare {
	/** Given when it is read: no other item of its list has it. */
	key: string;
	name: string;
	spanCount: number;
	errorCount: number;
}

export interface MatchedSpan {
	spanId: string;
	name: string;
	serviceName: string;
	startTimeUnixNano: string;
	durationNanos: number;
	status: StatusCode;
	/** What the query's `select()` asked for and what its conditions mention. */
	fields: Attribute[];
}

/** The matching spans of a trace, or those of them that share the values of a TraceQL `by()`. */
export interface MatchedSpanset {
	by: Attribute[];
	/** What the query compared of them, such as `count()`. */
	aggregates: Attribute[];
	matchedCount: number;
	spans: MatchedSpan[];
}

export interface TraceSummary {
	/** Given when it is read: no other item of its list has it. */
	key: string;
	traceId: string;
	rootServiceName: string;
	rootSpanName: string;
	startTimeUnixNano: string;
	durationNanos: number;
	spanCount: number;
	errorCount: number;
	rootMissing: boolean;
	services: ServiceShare[];
	matchedCount: number;
	spansets: MatchedSpanset[];
}

export interface SearchAnswer {
	traces: TraceSummary[];
	complete: boolean;
	partialReason: string | null;
	inspected: { spans: number; files: number; filesTotal: number; bytes: number };
	elapsedNanos: number;
}

/** What the server makes of a TraceQL query without running it. Places are UTF-16 offsets. */
export type QueryCheck =
	| { valid: true; kind: 'spans' | 'metrics'; printed: string }
	| {
			valid: false;
			error: { message: string; start: number; end: number; expected?: string[]; suggestion?: string | null };
	  };

/** A span that contributed to a series. Durations are in seconds. */
export interface Exemplar {
	/** Given when it is read: no other item of its list has it. */
	key: string;
	traceId: string;
	spanId: string;
	timeUnixNano: string;
	value: number;
}

export interface Series {
	labels: Attribute[];
	/** One for each step; null where there was nothing to compute from. */
	values: (number | null)[];
	exemplars: Exemplar[];
}

export interface MetricsAnswer {
	/** Where the first step begins; step `i` begins `i * stepNanos` later. */
	startTimeUnixNano: string;
	stepNanos: number;
	steps: number;
	series: Series[];
	complete: boolean;
	partialReason: string | null;
	/** Spans count as often as their sampling probability says; those of unknown probability count once. */
	weighting: { spans: number; spansOfUnknownProbability: number };
	inspected: { spans: number; files: number; filesTotal: number; bytes: number };
	elapsedNanos: number;
}

/** A trace in columns: every array has one entry per returned span. */
export interface CompactSpans {
	id: string[];
	/** Index of the parent in these arrays; -1 for a root, -2 when the parent is missing from the trace. */
	parent: number[];
	/** The id of a missing parent, else empty; absent when no parent is missing. */
	parentId?: string[];
	/** Nanoseconds after the start of the trace. */
	start: number[];
	/** Nanoseconds. */
	duration: number[];
	service: number[];
	name: number[];
	kind: number[];
	/** 0 unset, 1 ok, 2 error. */
	status: number[];
	events: number[];
	links: number[];
	exception: number[];
}

export interface CompactTrace {
	traceId: string;
	spanCount: number;
	returned: number;
	complete: boolean;
	partialReason: string | null;
	startTimeUnixNano: string;
	durationNanos: number;
	rootServiceName: string;
	rootSpanName: string;
	errorCount: number;
	duplicates: number;
	services: string[];
	names: string[];
	spans: CompactSpans;
}

export type AttributeType = 'string' | 'int' | 'double' | 'bool' | 'bytes' | 'array' | 'kvlist' | 'empty';

export interface Attribute {
	key: string;
	type: AttributeType;
	value: unknown;
}

export interface SpanEvent {
	timeUnixNano: string;
	name: string;
	attributes: Attribute[];
	droppedAttributesCount: number;
}

export interface SpanLink {
	traceId: string;
	spanId: string;
	traceState: string;
	flags: number;
	attributes: Attribute[];
	droppedAttributesCount: number;
}

export interface SpanDetail {
	traceId: string;
	spanId: string;
	parentSpanId: string;
	name: string;
	serviceName: string;
	kind: SpanKind;
	status: { code: StatusCode; message: string };
	startTimeUnixNano: string;
	durationNanos: number;
	attributes: Attribute[];
	resource: { attributes: Attribute[]; schemaUrl: string; droppedAttributesCount: number };
	scope: {
		name: string;
		version: string;
		attributes: Attribute[];
		schemaUrl: string;
		droppedAttributesCount: number;
	};
	events: SpanEvent[];
	links: SpanLink[];
	traceState: string;
	flags: number;
	droppedAttributesCount: number;
	droppedEventsCount: number;
	droppedLinksCount: number;
	adjustedCount: number | null;
	marks: string[];
}

export interface FindAnswer {
	indices: number[];
	total: number;
}

export interface StatusAnswer {
	version: string;
	tenant: string;
	spansStored: number;
	spansHot: number;
	files: number;
	bytesStored: number;
	uptimeNanos: number;
	ingestSpansPerSecond: number;
	/** What is wrong and does not go away by itself. */
	troubles: string[];
}

/** RFC 9457. */
export interface Problem {
	type?: string;
	title: string;
	status: number;
	detail?: string;
}
