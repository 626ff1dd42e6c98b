import { api, type ApiError } from '$lib/api/client';
import type { MetricsAnswer, SearchAnswer } from '$lib/api/types';
import { describeQuery, type QueryDescription } from '$lib/query/describe';
import { Asker } from '$lib/stores/asker.svelte';
import { metricsParameters, spansParameters, type QueryState } from '$lib/url';

export type QueryResult =
	| { kind: 'spans'; query: string; answer: SearchAnswer }
	| { kind: 'metrics'; query: string; description: QueryDescription; answer: MetricsAnswer };

/** Runs one query at a time; a newer one ends the older. The last answer stays in sight while the next is under way. */
export class QuerySession {
	result = $state.raw<QueryResult | null>(null);
	error = $state.raw<ApiError | null>(null);
	/** A person stopped the query that ran last. */
	cancelled = $state(false);
	/** When the last answer came; relative times count from here. */
	answeredAtMillis = $state(Date.now());
	#asker = new Asker();

	get loading(): boolean {
		return this.#asker.asking;
	}

	run(state: QueryState): void {
		const query = state.q;
		this.cancelled = false;
		if (query === null) {
			this.clear();
			return;
		}
		const description = describeQuery(query);
		// An answer of another kind is no stand-in for the one that is coming.
		if (this.result?.kind !== description.kind) this.result = null;
		this.#asker.ask({
			load: (signal) => load(query, description, state, signal),
			answered: (result) => {
				this.result = result;
				this.error = null;
				this.answeredAtMillis = Date.now();
			},
			failed: (error) => (this.error = error)
		});
	}

	/** Ends the query that is under way, because a person wants it so. */
	cancel(): void {
		if (!this.loading) return;
		this.cancelled = true;
		this.stop();
	}

	stop(): void {
		this.#asker.stop();
	}

	clear(): void {
		this.stop();
		this.result = null;
		this.error = null;
	}
}

async function load(
	query: string,
	description: QueryDescription,
	state: QueryState,
	signal: AbortSignal
): Promise<QueryResult> {
	if (description.kind === 'spans')
		return { kind: 'spans', query, answer: await api.search(spansParameters(state, Date.now()), signal) };
	// A comparison is about the range as a whole.
	const asked: QueryState = description.shape === 'compare' ? { ...state, step: 'all' } : state;
	return { kind: 'metrics', query, description, answer: await api.metrics(metricsParameters(asked, Date.now()), signal) };
}
