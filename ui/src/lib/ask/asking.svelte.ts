import { asApiError, type ApiError } from '$lib/api/client';
import { retryMillis, type Question } from './question';
import { pause, seen } from './waiting';

/** What a panel shows: nothing yet, an answer, one of an earlier question, or an error, beside the last answer if there is one. */
export type AskingState = 'waiting' | 'shown' | 'empty' | 'partial' | 'refused' | 'failed' | 'stale';

export interface Manner<T> {
	/** A question rests so long before it is put; one that is replaced meanwhile is never put. */
	restMillis?: number;
	/** Asked even while nobody sees the page. */
	unseen?: boolean;
	isEmpty?: (answer: T) => boolean;
	isPartial?: (answer: T) => boolean;
	onanswer?: (answer: T) => void;
}

/** A question, or what makes it at the moment it is put; null for none. */
type Making<T> = Question<T> | (() => Question<T> | null);

/**
 * How pages ask the server, one question at a time. The newest wins: another question, or `leave`, ends the one before for
 * good. A page in the background asks when it is seen. What fails is asked again by itself, what is refused is not.
 */
export class Asking<T> {
	/** The last answer. It stays until the next one is here; an error stands beside it. */
	answer = $state.raw<T | null>(null);
	error = $state.raw<ApiError | null>(null);
	/** True while an answer is awaited. */
	asking = $state(false);
	/** When the last answer came; relative times count from here. */
	answeredAtMillis = $state(Date.now());
	#isOutdated = $state(false);
	#manner: Manner<T>;
	#making: Making<T> | null = null;
	/** Of the question that was put last, and of that which was answered last; null while it is not made. */
	#key: string | null = null;
	#answeredKey: string | null = null;
	#current: AbortController | null = null;

	constructor(manner: Manner<T> = {}) {
		this.#manner = manner;
	}

	get state(): AskingState {
		if (this.error) return this.error.isPassing ? 'failed' : 'refused';
		if (this.answer === null) return 'waiting';
		if (this.#isOutdated) return 'stale';
		if (this.#manner.isPartial?.(this.answer)) return 'partial';
		return this.isEmpty ? 'empty' : 'shown';
	}

	/** The last answer holds nothing. */
	get isEmpty(): boolean {
		return this.answer !== null && (this.#manner.isEmpty?.(this.answer) ?? false);
	}

	/** The answer, if it is one to the question that was put last. */
	get fresh(): T | null {
		return this.#isOutdated ? null : this.answer;
	}

	/** Asks another question, or the same anew; what is under way already goes on. */
	put(making: Making<T>): void {
		const question = typeof making === 'function' ? null : making;
		if (this.asking && question !== null && question.key === this.#key) return;
		this.leave();
		this.error = null;
		this.#making = making;
		this.#key = question?.key ?? null;
		this.#isOutdated = question === null || question.key !== this.#answeredKey;
		const kept = question?.kept();
		if (kept === undefined) this.#begin(this.#manner.restMillis);
		else this.#answered(kept);
	}

	/** Asks once more, unless that is under way already, or was refused: that waits for another question. */
	repeat(): void {
		if (this.#current === null && this.state !== 'refused') this.#begin();
	}

	/** Ends what is under way: no more is asked, and an answer that comes all the same is thrown away. */
	leave(): void {
		this.#current?.abort();
		this.#current = null;
		this.asking = false;
	}

	#begin(restMillis = 0): void {
		const current = new AbortController();
		this.#current = current;
		this.asking = true;
		void this.#follow(restMillis, current.signal);
	}

	/** The signal tells a late answer from an awaited one: whoever ends a question aborts it. */
	async #follow(restMillis: number, signal: AbortSignal): Promise<void> {
		if (restMillis > 0) await pause(restMillis, signal);
		for (let failures = 1; !signal.aborted; failures += 1) {
			if (!this.#manner.unseen) await seen(signal);
			if (signal.aborted) return;
			this.asking = true;
			const error = await this.#ask(signal);
			if (signal.aborted) return;
			this.error = error;
			this.asking = false;
			if (!error?.isPassing) {
				this.#current = null;
				return;
			}
			await pause(retryMillis(failures, error, Math.random()), signal);
		}
	}

	/** Why there is no answer; null when there is one. */
	async #ask(signal: AbortSignal): Promise<ApiError | null> {
		try {
			const question = typeof this.#making === 'function' ? this.#making() : this.#making;
			const answer = await question?.ask(signal);
			if (!signal.aborted) this.#answered(answer ?? null);
			return null;
		} catch (error) {
			return asApiError(error);
		}
	}

	#answered(answer: T | null): void {
		this.answer = answer;
		this.answeredAtMillis = Date.now();
		this.#answeredKey = this.#key;
		this.#isOutdated = false;
		if (answer !== null) this.#manner.onanswer?.(answer);
	}
}
