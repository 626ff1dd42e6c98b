import { api, isAbort } from '$lib/api/client';
import type { StatusAnswer } from '$lib/api/types';

const POLL_MILLIS = 5_000;

/** What the server says of itself, asked every few seconds while the page is in sight. */
class ServerStatus {
	answer = $state.raw<StatusAnswer | null>(null);
	reachable = $state(true);
	#timer: ReturnType<typeof setTimeout> | undefined;

	/** Starts asking; the returned function stops it. */
	watch(): () => void {
		let stopped = false;
		const again = async () => {
			if (!document.hidden) await this.refresh();
			if (!stopped) this.#timer = setTimeout(again, POLL_MILLIS);
		};
		void again();
		return () => {
			stopped = true;
			clearTimeout(this.#timer);
		};
	}

	async refresh(): Promise<void> {
		try {
			this.answer = await api.status();
			this.reachable = true;
		} catch (error) {
			if (!isAbort(error)) this.reachable = false;
		}
	}
}

export const serverStatus = new ServerStatus();
