import { api, type ApiError } from '$lib/api/client';
import type { SearchAnswer } from '$lib/api/types';
import { Asker } from '$lib/stores/asker.svelte';
import { searchParameters, type SearchState } from '$lib/url';

/** Live searches are asked this often. */
const LIVE_MILLIS = 5_000;

/** Runs one search at a time; a newer one ends the older. The last answer stays in sight while the next is under way. */
export class SearchSession {
	answer = $state.raw<SearchAnswer | null>(null);
	error = $state.raw<ApiError | null>(null);
	/** The answer is of a search before the one that is under way. */
	stale = $state(false);
	/** When the last answer came; relative times count from here. */
	answeredAtMillis = $state(Date.now());
	#asker = new Asker();

	get loading(): boolean {
		return this.#asker.asking;
	}

	/** Runs the search, again and again when it is live, until another one is run or `stop` is called. */
	run(state: SearchState): void {
		this.stale = true;
		this.#asker.ask({
			load: (signal) => api.search(searchParameters(state, Date.now()), signal),
			answered: (answer) => {
				this.answer = answer;
				this.error = null;
				this.stale = false;
				this.answeredAtMillis = Date.now();
			},
			failed: (error) => (this.error = error),
			...(state.live && { everyMillis: LIVE_MILLIS })
		});
	}

	stop(): void {
		this.#asker.stop();
	}
}
