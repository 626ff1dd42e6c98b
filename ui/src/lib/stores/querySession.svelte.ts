import { api, asApiError, isAbort, type ApiError } from '$lib/api/client';
import type { MetricsAnswer, SearchAnswer } from '$lib/api/types';
import { describeQuery, type QueryDescription } from '$lib/query/describe';
import { metricsParameters, spansParameters, type QueryState } from '$lib/url';

export type QueryResult =
	| { kind: 'spans'; query: string; answer: SearchAnswer }
	| { kind: 'metrics'; query: string; description: QueryDescription; answer: MetricsAnswer };

/** Runs one query at a time; a newer one ends the older. The last answer stays in sight while the next is under way. */
export class QuerySession {
	result = $state.raw<QueryResult | null>(null);
	error = $state.raw<ApiError | null>(null);
	loading = $state(false);
	/** A person stopped the query that ran last. */
	cancelled = $state(false);
	/** When the last answer came; relative times count from here. */
	answeredAtMillis = $state(Date.now());
	#abort: AbortController | null = null;

	async run(state: QueryState): Promise<void> {
		const query = state.q;
		this.#abort?.abort();
		this.cancelled = false;
		if (query === null) {
			this.clear();
			return;
		}
		const abort = new AbortController();
		this.#abort = abort;
		this.loading = true;
		const description = describeQuery(query);
		// A comparison is about the range as a whole.
		const asked: QueryState = description.shape === 'compare' ? { ...state, step: 'all' } : state;
		// An answer of another kind is no stand-in for the one that is coming.
		if (this.result?.kind !== description.kind) this.result = null;
		try {
			this.result =
				description.kind === 'metrics'
					? {
							kind: 'metrics',
							query,
							description,
							answer: await api.metrics(metricsParameters(asked, Date.now()), abort.signal)
						}
					: { kind: 'spans', query, answer: await api.search(spansParameters(state, Date.now()), abort.signal) };
			this.error = null;
			this.answeredAtMillis = Date.now();
		} catch (error) {
			if (isAbort(error)) return;
			this.error = asApiError(error);
		} finally {
			if (this.#abort === abort) this.loading = false;
		}
	}

	/** Ends the query that is under way, because a person wants it so. */
	cancel(): void {
		if (!this.loading) return;
		this.cancelled = true;
		this.stop();
	}

	stop(): void {
		this.#abort?.abort();
		this.#abort = null;
		this.loading = false;
	}

	clear(): void {
		this.stop();
		this.result = null;
		this.error = null;
	}
}
