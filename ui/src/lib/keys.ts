/**
 * Keys for lists of data. A keyed `{#each}` draws nothing at all when two items share a key, and what is sent to a
 * server, written into an address or kept in a browser may hold anything twice: so keys are made where data are read.
 */
export class Keys {
	#taken = new Set<string>();
	#counts = new Map<string, number>();

	/** The wanted key, or when that is taken the first one free with a number behind it. */
	take(wanted: string): string {
		let count = this.#counts.get(wanted) ?? 0;
		let key = wanted;
		while (this.#taken.has(key)) {
			count += 1;
			key = `${wanted} #${count + 1}`;
		}
		this.#counts.set(wanted, count);
		this.#taken.add(key);
		return key;
	}
}

/** The items, each with a key of its own. */
export function withKeys<T>(items: T[], wanted: (item: T) => string): (T & { key: string })[] {
	const keys = new Keys();
	return items.map((item) => ({ ...item, key: keys.take(wanted(item)) }));
}
