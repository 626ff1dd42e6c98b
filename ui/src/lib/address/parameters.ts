/** What pages ask for, as the API takes it. */
import { queryPage, searchPage, wanted, type Picked, type QueryState, type SearchState } from './pages';
import { BUCKETS_PER_OCTAVE } from '$lib/metrics/heatmap';
import { resolve, type Scope } from './scope';

/** As many spans of each spanset as the table of spans asks for. */
const QUERY_SPANS = 20;
/** Of each series; a hundred series have two thousand. */
const EXEMPLARS = 20;
/** Of each attribute, at most so many values are told. */
const VALUES_COMPARED = 10;

function within(scope: Scope, nowMillis: number, params: URLSearchParams): URLSearchParams {
	const { start, end } = resolve(scope, nowMillis);
	params.set('start', start);
	if (end) params.set('end', end);
	return params;
}

function conditions(state: SearchState): URLSearchParams {
	const params = wanted.params(state);
	if (state.traceql?.trim() === '') params.set('q', '{}');
	return params;
}

export function searchParameters(state: SearchState, nowMillis: number): URLSearchParams {
	const params = countParameters(state, nowMillis);
	params.set('limit', String(state.limit));
	searchPage.fields.sort.write(state.sort, params);
	return params;
}

/** All that a search would find without a limit. */
export function countParameters(state: SearchState, nowMillis: number): URLSearchParams {
	return within(state, nowMillis, conditions(state));
}

/** What came since a position, whenever it was; without one, from where to go on. */
export function tailParameters(state: SearchState, position: string | null, limit: number): URLSearchParams {
	const params = conditions(state);
	params.set('limit', String(limit));
	params.set('spans', '1');
	if (position !== null) params.set('after', position);
	return params;
}

/** How often a live tail looks. */
export const LOOK_MILLIS = 500;

/** What a query computes over the range of a search, in steps, or over the whole of it in one. */
export function seriesParameters(state: SearchState, q: string, nowMillis: number, isOneStep = false): URLSearchParams {
	const params = within(state, nowMillis, new URLSearchParams({ q }));
	if (!params.has('end')) params.set('end', new Date(nowMillis).toISOString());
	if (isOneStep) params.set('instant', 'true');
	params.set('buckets', String(BUCKETS_PER_OCTAVE));
	return params;
}

/** What sets the spans of a part of the heatmap apart from all others that match. */
export function differenceOf(query: string, { from, to, min, max }: Picked): string {
	const nanos = (millis: number) => String(BigInt(millis) * 1_000_000n);
	return `${query} | compare({ duration >= ${min}ns && duration <= ${max}ns }, ${VALUES_COMPARED}, ${nanos(from)}, ${nanos(to)})`;
}

/** True when nothing but time, limit and sorting is set. */
export function isUnfiltered(state: SearchState): boolean {
	return state.traceql === null ? wanted.params(state).size === 0 : ['', '{}'].includes(state.traceql.replace(/\s/g, ''));
}

export function spansParameters(state: QueryState, nowMillis: number): URLSearchParams {
	const params = within(state, nowMillis, new URLSearchParams({ q: state.q ?? '{ }' }));
	params.set('limit', String(state.limit));
	params.set('spans', String(QUERY_SPANS));
	queryPage.fields.sort.write(state.sort, params);
	return params;
}

/** Both ends are given, so that the picture covers what was asked. */
export function metricsParameters(state: QueryState, nowMillis: number): URLSearchParams {
	const params = within(state, nowMillis, new URLSearchParams({ q: state.q ?? '' }));
	if (!params.has('end')) params.set('end', new Date(nowMillis).toISOString());
	if (state.step === 'all') params.set('instant', 'true');
	else if (state.step) params.set('step', state.step);
	params.set('exemplars', String(EXEMPLARS));
	params.set('buckets', String(BUCKETS_PER_OCTAVE));
	return params;
}
