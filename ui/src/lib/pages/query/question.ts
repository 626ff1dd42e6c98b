import { metricsParameters, spansParameters } from '$lib/address/parameters';
import type { QueryState } from '$lib/address/pages';
import type { apiOf } from '$lib/api/client';
import type { MetricsAnswer, SearchAnswer } from '$lib/api/types';
import { mapped, type Question } from '$lib/ask/question';
import { describeQuery } from './describe';

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
	const query = state.q;
	if (query === null) return null;
	const description = describeQuery(query);
	if (description.kind === 'spans') {
		return mapped(api.search(spansParameters(state, nowMillis)), (answer) => ({ kind: 'spans', query, answer }));
	}
	// A comparison is about the range as a whole.
	const asked: QueryState = description.isComparison ? { ...state, step: 'all' } : state;
	return mapped(api.metrics(metricsParameters(asked, nowMillis)), (answer) => ({ kind: 'metrics', query, answer }));
}
