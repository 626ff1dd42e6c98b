/**
 * The one place that knows what is in an address. Every state worth sharing is here: filters, time range, sorting,
 * the open span, the text looked for in a trace, the zoomed window.
 */
import { NEWEST_FIRST, SORT_KEYS, type Sort, type SortKey } from './search/sort';
import type { TimeWindow } from './trace/scale';

export const RANGE_PRESETS = ['15m', '1h', '6h', '24h', '7d'] as const;
export type RangePreset = (typeof RANGE_PRESETS)[number];
export const RANGE_DEFAULT: RangePreset = '1h';
const RANGE_MILLIS: Record<RangePreset, number> = {
	'15m': 15 * 60_000,
	'1h': 3_600_000,
	'6h': 6 * 3_600_000,
	'24h': 24 * 3_600_000,
	'7d': 7 * 24 * 3_600_000
};

export const LIMITS = [20, 50, 100, 200, 500, 1000] as const;
export const LIMIT_DEFAULT = 50;
const LIMIT_MAX = 1000;

export const STATUSES = ['error', 'ok', 'unset'] as const;
export const KINDS = ['server', 'client', 'internal', 'producer', 'consumer'] as const;

/** Lengths of steps to choose from; absent, the server picks one, and `all` means one step, the whole range. */
export const STEPS = ['1s', '10s', '30s', '1m', '5m', '15m', '1h', '6h', 'all'] as const;
export const QUERY_TABS = ['traces', 'spans'] as const;
export type QueryTab = (typeof QUERY_TABS)[number];
/** As many spans of each spanset as the table of spans asks for. */
const QUERY_SPANS = 20;
const EXEMPLARS = 100;

/** A preset counted back from now, or two fixed ends (RFC 3339; an empty end means now). */
export type TimeRange = { preset: RangePreset } | { start: string; end: string };

export interface SearchState {
	/** TraceQL, when that is how the search is written; null when the filters are. */
	traceql: string | null;
	service: string;
	operation: string;
	status: string;
	kind: string;
	minDuration: string;
	maxDuration: string;
	/** `key op value` without spaces around the operator. */
	attributes: string[];
	range: TimeRange;
	limit: number;
	sort: Sort;
	live: boolean;
}

export function emptySearch(): SearchState {
	return {
		traceql: null,
		service: '',
		operation: '',
		status: '',
		kind: '',
		minDuration: '',
		maxDuration: '',
		attributes: [],
		range: { preset: RANGE_DEFAULT },
		limit: LIMIT_DEFAULT,
		sort: NEWEST_FIRST,
		live: false
	};
}

function oneOf<T extends string>(text: string | null, allowed: readonly T[]): T | '' {
	return allowed.find((item) => item === text) ?? '';
}

function readRange(params: URLSearchParams): TimeRange {
	const start = params.get('start');
	if (start) return { start, end: params.get('end') ?? '' };
	return { preset: oneOf(params.get('range'), RANGE_PRESETS) || RANGE_DEFAULT };
}

function readSort(text: string | null): Sort {
	const descending = text?.startsWith('-') ?? false;
	const key = oneOf<SortKey>(text?.replace(/^-/, '') ?? null, SORT_KEYS);
	return key ? { key, descending } : NEWEST_FIRST;
}

export function readSearch(params: URLSearchParams): SearchState {
	const limit = Number(params.get('limit'));
	return {
		traceql: params.get('q'),
		service: params.get('service') ?? '',
		operation: params.get('operation') ?? '',
		status: oneOf(params.get('status'), STATUSES),
		kind: oneOf(params.get('kind'), KINDS),
		minDuration: params.get('minDuration') ?? '',
		maxDuration: params.get('maxDuration') ?? '',
		// One condition written twice is one condition.
		attributes: [...new Set(params.getAll('attr').filter((text) => text !== ''))],
		range: readRange(params),
		limit: Number.isInteger(limit) && limit >= 1 && limit <= LIMIT_MAX ? limit : LIMIT_DEFAULT,
		sort: readSort(params.get('sort')),
		live: params.get('live') === '1'
	};
}

function writeFilters(state: SearchState, params: URLSearchParams): void {
	if (state.traceql !== null) {
		params.set('q', state.traceql);
		return;
	}
	const plain = {
		service: state.service,
		operation: state.operation,
		status: state.status,
		kind: state.kind,
		minDuration: state.minDuration,
		maxDuration: state.maxDuration
	};
	for (const [key, value] of Object.entries(plain)) if (value) params.set(key, value);
	for (const attribute of state.attributes) params.append('attr', attribute);
}

function writeRange(range: TimeRange, params: URLSearchParams): void {
	if ('preset' in range) {
		if (range.preset !== RANGE_DEFAULT) params.set('range', range.preset);
		return;
	}
	params.set('start', range.start);
	if (range.end) params.set('end', range.end);
}

function writeSort({ key, descending }: Sort, params: URLSearchParams): void {
	const isDefault = key === NEWEST_FIRST.key && descending === NEWEST_FIRST.descending;
	if (!isDefault) params.set('sort', `${descending ? '-' : ''}${key}`);
}

/** A range as the API takes it; a preset is counted back from `nowMillis`. */
function askRange(range: TimeRange, nowMillis: number, params: URLSearchParams): void {
	if ('preset' in range) {
		params.set('start', new Date(nowMillis - RANGE_MILLIS[range.preset]).toISOString());
		return;
	}
	params.set('start', range.start);
	if (range.end) params.set('end', range.end);
}

/** The address of a search; what has its default value is left out. */
export function searchHref(state: SearchState): string {
	const params = new URLSearchParams();
	writeFilters(state, params);
	writeRange(state.range, params);
	if (state.limit !== LIMIT_DEFAULT) params.set('limit', String(state.limit));
	writeSort(state.sort, params);
	if (state.live) params.set('live', '1');
	const text = params.toString();
	return text ? `/?${text}` : '/';
}

/** The same search as the API's parameters; relative ranges are counted from `nowMillis`. */
export function searchParameters(state: SearchState, nowMillis: number): URLSearchParams {
	const params = new URLSearchParams();
	writeFilters(state, params);
	if (state.traceql !== null && state.traceql.trim() === '') params.set('q', '{}');
	askRange(state.range, nowMillis, params);
	params.set('limit', String(state.limit));
	return params;
}

/** True when nothing but time, limit and sorting is set. */
export function isUnfiltered(state: SearchState): boolean {
	const params = new URLSearchParams();
	writeFilters(state, params);
	return state.traceql === null ? params.size === 0 : ['', '{}'].includes(state.traceql.replace(/\s/g, ''));
}

/** The search that finds traces with one attribute value. */
export function attributeSearchHref(scope: 'span' | 'resource', key: string, value: string): string {
	return searchHref({ ...emptySearch(), attributes: [`${scope}.${key}=${value}`], range: { preset: '24h' } });
}

/** The query page. Without a query it offers examples; an address with one runs it. */
export interface QueryState {
	/** Null when nothing was asked yet. */
	q: string | null;
	range: TimeRange;
	/** One of `STEPS`, or empty: as the server thinks fit. */
	step: string;
	tab: QueryTab;
	limit: number;
	sort: Sort;
}

export function readQuery(params: URLSearchParams): QueryState {
	const { limit, sort, range } = readSearch(params);
	const q = params.get('q');
	return {
		q: q?.trim() ? q : null,
		range,
		step: oneOf(params.get('step'), STEPS),
		tab: oneOf(params.get('tab'), QUERY_TABS) || 'traces',
		limit,
		sort
	};
}

export function queryHref(state: Partial<QueryState>): string {
	const { q, range, step, tab, limit, sort } = { ...readQuery(new URLSearchParams()), ...state };
	const params = new URLSearchParams();
	if (q) params.set('q', q);
	writeRange(range, params);
	if (step) params.set('step', step);
	if (tab !== 'traces') params.set('tab', tab);
	if (limit !== LIMIT_DEFAULT) params.set('limit', String(limit));
	writeSort(sort, params);
	const text = params.toString();
	return text ? `/query?${text}` : '/query';
}

/** A query for spans as the API's parameters. */
export function spansParameters(state: QueryState, nowMillis: number): URLSearchParams {
	const params = new URLSearchParams({ q: state.q ?? '{ }' });
	askRange(state.range, nowMillis, params);
	params.set('limit', String(state.limit));
	params.set('spans', String(QUERY_SPANS));
	return params;
}

/** A query for time series as the API's parameters; both ends are given, so that the picture covers what was asked. */
export function metricsParameters(state: QueryState, nowMillis: number): URLSearchParams {
	const params = new URLSearchParams({ q: state.q ?? '' });
	askRange(state.range, nowMillis, params);
	if (!params.has('end')) params.set('end', new Date(nowMillis).toISOString());
	if (state.step === 'all') params.set('instant', 'true');
	else if (state.step) params.set('step', state.step);
	params.set('exemplars', String(EXEMPLARS));
	return params;
}

export interface TraceState {
	span: string;
	find: string;
	zoom: TimeWindow | null;
}

export function readTrace(params: URLSearchParams): TraceState {
	const [, from, to] = (/^(\d+)-(\d+)$/.exec(params.get('zoom') ?? '') ?? []).map(Number);
	const isWindow = Number.isFinite(from) && Number.isFinite(to);
	return {
		span: params.get('span') ?? '',
		find: params.get('find') ?? '',
		zoom: isWindow ? { from: from!, to: to! } : null
	};
}

export function traceHref(traceId: string, state: Partial<TraceState> = {}): string {
	const params = new URLSearchParams();
	if (state.span) params.set('span', state.span);
	if (state.find) params.set('find', state.find);
	if (state.zoom) params.set('zoom', `${Math.round(state.zoom.from)}-${Math.round(state.zoom.to)}`);
	const text = params.toString();
	return `/trace/${encodeURIComponent(traceId)}${text ? `?${text}` : ''}`;
}

/** A trace id as people paste it: spaces, dashes, quotes, `0x`, a whole address, or 16 digits; null when it is none. */
export function traceIdIn(text: string): string | null {
	const fromAddress = /\/traces?\/([0-9a-fA-F]{16,32})/.exec(text);
	const digits = (fromAddress?.[1] ?? text)
		.trim()
		.replace(/^0x/i, '')
		.replace(/["'\s-]/g, '')
		.toLowerCase();
	if (!/^[0-9a-f]{16}$|^[0-9a-f]{32}$/.test(digits) || /^0+$/.test(digits)) return null;
	return digits.padStart(32, '0');
}
