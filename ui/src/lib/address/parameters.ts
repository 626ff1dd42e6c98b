/** What pages ask for, as the API takes it. */
import { wanted, type QueryState, type SearchState } from './pages';
import { resolve, type Scope } from './scope';

/** As many spans of each spanset as the table of spans asks for. */
const QUERY_SPANS = 20;
const EXEMPLARS = 100;

function within(scope: Scope, nowMillis: number, params: URLSearchParams): URLSearchParams {
	const { start, end } = resolve(scope, nowMillis);
	params.set('start', start);
	if (end) params.set('end', end);
	return params;
}

export function searchParameters(state: SearchState, nowMillis: number): URLSearchParams {
	const params = within(state, nowMillis, wanted.params(state));
	if (state.traceql?.trim() === '') params.set('q', '{}');
	params.set('limit', String(state.limit));
	return params;
}

/** True when nothing but time, limit and sorting is set. */
export function isUnfiltered(state: SearchState): boolean {
	return state.traceql === null ? wanted.params(state).size === 0 : ['', '{}'].includes(state.traceql.replace(/\s/g, ''));
}

export function spansParameters(state: QueryState, nowMillis: number): URLSearchParams {
	const params = within(state, nowMillis, new URLSearchParams({ q: state.q ?? '{ }' }));
	params.set('limit', String(state.limit));
	params.set('spans', String(QUERY_SPANS));
	return params;
}

/** Both ends are given, so that the picture covers what was asked. */
export function metricsParameters(state: QueryState, nowMillis: number): URLSearchParams {
	const params = within(state, nowMillis, new URLSearchParams({ q: state.q ?? '' }));
	if (!params.has('end')) params.set('end', new Date(nowMillis).toISOString());
	if (state.step === 'all') params.set('instant', 'true');
	else if (state.step) params.set('step', state.step);
	params.set('exemplars', String(EXEMPLARS));
	return params;
}
