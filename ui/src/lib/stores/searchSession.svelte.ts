import { api, asApiError, isAbort, type ApiError } from '$lib/api/client';
import type { SearchAnswer } from '$lib/api/types';
import { searchParameters, type SearchState } from '$lib/url';

/** Live searches are asked this often. */
const LIVE_MILLIS = 5_000;

/** Runs one search at a time; a newer one ends the older. The last answer stays in sight while the next is under way. */
export class SearchSession {
	answer = $state.raw<SearchAnswer | null>(null);
	error = $state.raw<ApiError | null>(null);
	loading = $state(false);
	/** When the last answer came; relative times count from here. */
	answeredAtMillis = $state(Date.now());
	#abort: AbortController | null = null;
	#timer: ReturnType<typeof setTimeout> | undefined;

	/** Runs the search, again and again when it is live; the returned function ends it. */
	follow(state: SearchState): () => void {
		const once = async () => {
			if (!document.hidden) await this.run(state);
			if (state.live) this.#timer = setTimeout(once, LIVE_MILLIS);
		};
		void once();
		return () => {
			clearTimeout(this.#timer);
			this.#abort?.abort();
		};
	}

	async run(state: SearchState): Promise<void> {
		this.#abort?.abort();
		const abort = new AbortController();
		this.#abort = abort;
		this.loading = true;
		try {
			this.answer = await api.search(searchParameters(state, Date.now()), abort.signal);
			this.error = null;
			this.answeredAtMillis = Date.now();
		} catch (error) {
			if (isAbort(error)) return;
			this.error = asApiError(error);
		} finally {
			if (this.#abort === abort) this.loading = false;
		}
	}
}
