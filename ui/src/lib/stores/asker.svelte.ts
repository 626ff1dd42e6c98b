/** How pages ask the server: the one place that knows of timers, of pages nobody sees, and of answers that come late. */
import { asApiError, type ApiError } from '$lib/api/client';

export interface Question<T> {
	load: (signal: AbortSignal) => Promise<T>;
	answered: (answer: T) => void;
	failed: (error: ApiError) => void;
	/** Asked again so long after each answer; once when absent. */
	everyMillis?: number;
	/** The first asking waits so long: a question that is replaced meanwhile is never asked. */
	afterMillis?: number;
	/** Asked even while nobody sees the page. */
	unseen?: boolean;
}

/**
 * Asks one question at a time. A page in the background asks when it is seen. Another question, or `stop`, ends the one
 * before for good: nothing more is asked of it, and an answer that comes all the same is thrown away.
 */
export class Asker {
	/** True while an answer is awaited. */
	asking = $state(false);
	#current: AbortController | null = null;

	ask<T>(question: Question<T>): void {
		this.stop();
		const current = new AbortController();
		this.#current = current;
		this.asking = true;
		void this.#follow(question, current.signal);
	}

	stop(): void {
		this.#current?.abort();
		this.#current = null;
		this.asking = false;
	}

	async #follow<T>(question: Question<T>, signal: AbortSignal): Promise<void> {
		if (question.afterMillis !== undefined) await pause(question.afterMillis, signal);
		while (!signal.aborted) {
			if (!question.unseen) await seen(signal);
			if (signal.aborted) return;
			this.asking = true;
			await this.#once(question, signal);
			if (signal.aborted) return;
			this.asking = false;
			if (question.everyMillis === undefined) return;
			await pause(question.everyMillis, signal);
		}
	}

	/** The signal tells a late answer from an awaited one: whoever ends a question aborts it. */
	async #once<T>(question: Question<T>, signal: AbortSignal): Promise<void> {
		try {
			const answer = await question.load(signal);
			if (!signal.aborted) question.answered(answer);
		} catch (error) {
			if (!signal.aborted) question.failed(asApiError(error));
		}
	}
}

function isHidden(): boolean {
	return document.hidden || document.visibilityState === 'hidden';
}

/** Resolves when the page is in sight, at once if it is, or when the signal ends the waiting. */
async function seen(signal: AbortSignal): Promise<void> {
	while (isHidden() && !signal.aborted) {
		await new Promise<void>((resolve) => {
			const done = () => {
				document.removeEventListener('visibilitychange', done);
				signal.removeEventListener('abort', done);
				resolve();
			};
			document.addEventListener('visibilitychange', done);
			signal.addEventListener('abort', done);
		});
	}
}

function pause(millis: number, signal: AbortSignal): Promise<void> {
	return new Promise((resolve) => {
		const done = () => {
			clearTimeout(timer);
			signal.removeEventListener('abort', done);
			resolve();
		};
		const timer = setTimeout(done, millis);
		signal.addEventListener('abort', done);
	});
}
