/** Texts that were used last in this browser, the last one first. */
export class Remembered {
	#key: string;
	#max: number;

	constructor(name: string, max: number) {
		this.#key = `tracehouse.${name}`;
		this.#max = max;
	}

	read(): string[] {
		try {
			const stored: unknown = JSON.parse(localStorage.getItem(this.#key) ?? '[]');
			const texts = (Array.isArray(stored) ? stored : []).filter((text) => typeof text === 'string' && text !== '');
			return [...new Set<string>(texts)].slice(0, this.#max);
		} catch {
			return [];
		}
	}

	/** Puts one in front; one that was there moves. */
	add(text: string): string[] {
		const added = text.trim();
		const known = this.read();
		if (added === '') return known;
		const texts = [added, ...known.filter((other) => other !== added)].slice(0, this.#max);
		try {
			localStorage.setItem(this.#key, JSON.stringify(texts));
		} catch {
			// Without storage there is nothing to remember.
		}
		return texts;
	}
}

export const pastQueries = new Remembered('queries', 20);
export const pastTenants = new Remembered('tenants', 8);
