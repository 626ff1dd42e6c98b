import { metricsParameters, spansParameters } from '$lib/address/parameters';
import type { QueryState } from '$lib/address/pages';
import type { apiOf } from '$lib/api/client';
import type { MetricsAnswer, SearchAnswer } from '$lib/api/types';
import { mapped, type Question } from '$lib/ask/question';
import { askedBy } from './describe';

export type QueryResult =
	| { kind: 'spans'; query: string; answer: SearchAnswer }
	| { kind: 'metrics'; query: string; answer: MetricsAnswer };

export const isEmpty = (result: QueryResult) =>
	result.kind === 'spans' ? result.answer.traces.length === 0 : result.answer.series.length === 0;

/** What a query asks for depends on what it will give; none asks nothing. */
export function queryQuestion(
	api: ReturnType<typeof apiOf>,
	state: QueryState,
	nowMillis: number
): Question<QueryResult> | null {
	const wanted = askedBy(state);
	if (wanted === null) return null;
	const { query, kind, isComparison } = wanted;
	const asked: QueryState = { ...state, q: query };
	if (kind === 'spans') {
		return mapped(api.search(spansParameters(asked, nowMillis)), (answer) => ({ kind, query, answer }));
	}
	// A comparison is about the range as a whole.
	const inSteps: QueryState = isComparison ? { ...asked, step: 'all' } : asked;
	return mapped(api.metrics(metricsParameters(inSteps, nowMillis)), (answer) => ({ kind, query, answer }));
}
