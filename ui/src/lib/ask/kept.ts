/** Answers that hold for a while, within so many bytes as they were sent; what was not used for longest goes first. */
export class KeptAnswers {
	#bytesMax: number;
	#bytes = 0;
	#entries = new Map<string, { answer: unknown; bytes: number; untilMillis: number }>();

	constructor(bytesMax: number) {
		this.#bytesMax = bytesMax;
	}

	find(key: string): unknown {
		const entry = this.#entries.get(key);
		if (entry === undefined) return undefined;
		this.#drop(key);
		if (entry.untilMillis <= Date.now()) return undefined;
		this.#take(key, entry);
		return entry.answer;
	}

	keep(key: string, answer: unknown, bytes: number, holdsMillis: number): void {
		this.#drop(key);
		if (bytes > this.#bytesMax) return;
		for (const oldest of this.#entries.keys()) {
			if (this.#bytes + bytes <= this.#bytesMax) break;
			this.#drop(oldest);
		}
		this.#take(key, { answer, bytes, untilMillis: Date.now() + holdsMillis });
	}

	#take(key: string, entry: { answer: unknown; bytes: number; untilMillis: number }): void {
		this.#entries.set(key, entry);
		this.#bytes += entry.bytes;
	}

	#drop(key: string): void {
		this.#bytes -= this.#entries.get(key)?.bytes ?? 0;
		this.#entries.delete(key);
	}
}

/** The one cache of the interface. */
export const keptAnswers = new KeptAnswers(8 * 1024 * 1024);
