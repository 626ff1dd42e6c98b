import { api } from '$lib/api/client';
import type { StatusAnswer } from '$lib/api/types';
import { Asker } from '$lib/stores/asker.svelte';

const POLL_MILLIS = 5_000;

/** What the server says of itself, asked every few seconds while the page is in sight. */
class ServerStatus {
	answer = $state.raw<StatusAnswer | null>(null);
	reachable = $state(true);
	#asker = new Asker();

	/** Starts asking; the returned function stops it. */
	watch(): () => void {
		this.#asker.ask({
			load: (signal) => api.status(signal),
			answered: (answer) => {
				this.answer = answer;
				this.reachable = true;
			},
			failed: () => (this.reachable = false),
			everyMillis: POLL_MILLIS
		});
		return () => this.#asker.stop();
	}
}

export const serverStatus = new ServerStatus();
