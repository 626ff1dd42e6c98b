import { Asking, type Manner } from './asking.svelte';
import type { Question } from './question';
import { pause } from './waiting';

/** A live page asks anew this often. */
export const LIVE_MILLIS = 5_000;

let shownMillis: number | null = null;

/** From when on the page that is shown counts back. */
export const pageMoment = () => shownMillis ?? Date.now();

/** What a page asks together: all its panels count back from one moment, and those of a live page ask anew in turns. */
export class Round {
	#panels: { asking: Asking<unknown>; making: () => Question<unknown> | null }[] = [];
	#moment: number | null = null;
	#turns: AbortController | null = null;
	#isPage: boolean;

	/** `isPage`: what the page is there to show, and no part of the frame around it. */
	constructor({ isPage = false } = {}) {
		this.#isPage = isPage;
	}

	/** The moment of this turn: that at which its first question was put, be it long after a tab was opened. */
	get nowMillis(): number {
		if (this.#moment === null) {
			this.#moment = Date.now();
			if (this.#isPage) shownMillis = this.#moment;
		}
		return this.#moment;
	}

	/** Part of the page with a question of its own, or with none for the time being. */
	panel<T>(question: (nowMillis: number) => Question<T> | null, manner: Manner<T> = {}): Asking<T> {
		const asking = new Asking<T>(manner);
		this.#panels.push({ asking: asking as Asking<unknown>, making: () => question(this.nowMillis) });
		return asking;
	}

	/** Asks anew, again and again if so; returns what ends it. A turn passes by whoever still waits for an answer. */
	begin(everyMillis: number | false = false): () => void {
		this.end();
		this.#moment = null;
		for (const { asking, making } of this.#panels) asking.put(making);
		this.#turns = new AbortController();
		if (everyMillis !== false) void this.#repeat(everyMillis, this.#turns.signal);
		return () => this.end();
	}

	end(): void {
		this.#turns?.abort();
		for (const { asking } of this.#panels) asking.leave();
	}

	async #repeat(everyMillis: number, signal: AbortSignal): Promise<void> {
		while (!signal.aborted) {
			await pause(everyMillis, signal);
			if (signal.aborted) return;
			this.#moment = null;
			for (const { asking } of this.#panels) asking.repeat();
		}
	}
}
