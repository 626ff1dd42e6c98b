/**
 * The native API's answers as the UI reads them. They are those of the server's own description, from which `npm run contract` makes
 * `contract.generated.ts`; here is only what reading adds to them or leaves away. Times are nanoseconds since the epoch as decimal
 * strings (a JavaScript number cannot hold them), durations are nanoseconds as numbers.
 */
import type * as told from './contract.generated';
import { spanKindValues } from './contract.generated';

/** As it is read, where every field is there. */
type Read<T> = T extends readonly (infer U)[]
	? Read<U>[]
	: T extends object
		? { [K in keyof T]-?: Read<Exclude<T[K], undefined>> }
		: T;
/** With some fields of other types. */
type With<T, F> = Omit<T, keyof F> & F;
/** Items of a list have a key, given when they are read: no other item of the list has it. */
type Keyed<T> = T & { key: string };

export type { AttributeScope, Mark, Problem, SeriesShape, SeriesUnit, SpanKind, StatusCode } from './contract.generated';
export type AttributeType = told.ValueType;

/** OTLP's `Span.SpanKind`, by number. */
export const SPAN_KINDS = spanKindValues;

export type ServicesAnswer = Read<told.ServicesAnswer>;
export type OperationsAnswer = Read<told.OperationsAnswer>;
export type TraceCount = Read<told.TraceCountAnswer>;
export type SavedQuery = Read<told.SavedQuery>;
export type SavedQueriesAnswer = With<Read<told.SavedQueriesAnswer>, { queries: Keyed<SavedQuery>[] }>;
export type AttributeKeysAnswer = Read<told.AttributeKeysAnswer>;
export type AttributeValuesAnswer = Read<told.AttributeValuesAnswer>;

export type Attribute = With<told.AttributeAnswer, { value: unknown }>;
export type ServiceShare = Keyed<Read<told.ServiceShare>>;
export type MatchedSpan = With<Read<told.MatchedSpanAnswer>, { target?: string; fields: Attribute[] }>;
export type MatchedSpanset = With<
	Read<told.SpansetAnswer>,
	{ by: Attribute[]; aggregates: Attribute[]; spans: MatchedSpan[] }
>;
export type TraceSummary = Keyed<
	With<Omit<Read<told.TraceSummaryAnswer>, 'tenant'>, { rootTarget?: string; services: ServiceShare[]; spansets: MatchedSpanset[] }>
>;
export type SearchAnswer = With<Read<told.SearchAnswerBody>, { traces: TraceSummary[] }>;
export type TailAnswer = With<Read<told.TailAnswer>, { traces: TraceSummary[] }>;

/** What the server makes of a TraceQL query without running it. Places are UTF-16 offsets. */
export type QueryCheck =
	| { valid: true; kind: told.QueryKind; printed: string }
	| { valid: false; error: Omit<Read<told.QueryErrorAnswer>, 'rendered'> };

export type Exemplar = Keyed<With<Read<told.ExemplarAnswer>, { value: number }>>;
export type Series = With<
	Read<told.SeriesAnswer>,
	{ labels: Attribute[]; values: (number | null)[]; exemplars: Exemplar[] }
>;
export type MetricsAnswer = With<Read<told.MetricsAnswerBody>, { series: Series[] }>;

/** A trace in columns: every array has one entry per returned span. */
export type CompactSpans = With<Omit<Read<told.CompactSpans>, 'tenant'>, { parentId?: string[]; target?: number[] }>;
export type CompactTrace = With<Omit<Read<told.CompactTrace>, 'tenants'>, { targets?: string[]; spans: CompactSpans }>;

export type SpanEvent = With<Read<told.EventAnswer>, { attributes: Attribute[] }>;
export type SpanLink = With<Read<told.LinkAnswer>, { attributes: Attribute[] }>;
export type SpanDetail = With<
	Read<told.SpanAnswer>,
	{
		attributes: Attribute[];
		resource: With<Read<told.ResourceAnswer>, { attributes: Attribute[] }>;
		scope: With<Read<told.ScopeAnswer>, { attributes: Attribute[] }>;
		events: SpanEvent[];
		links: SpanLink[];
	}
>;

export type FindAnswer = Read<told.FindAnswer>;
export type StatusAnswer = Read<told.ServerStatus>;
