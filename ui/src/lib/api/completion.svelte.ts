import { api } from './client';
import type { AttributeKeysAnswer, AttributeValuesAnswer } from './types';

/** Lists older than this are asked for again when a field is entered. */
const FRESH_MILLIS = 20_000;
const VALUES_LIMIT = 100;
/** How many lists are kept; the oldest goes first. */
const LISTS_KEPT_MAX = 64;

interface Entry {
	items: unknown[];
	askedAtMillis: number;
}

/** What the filter fields offer, asked for when a field is entered and remembered for a while. */
class Completion {
	#entries = $state.raw(new Map<string, Entry>());
	#pending = new Set<string>();

	services(): string[] {
		return this.#items('services');
	}

	operations(service: string): string[] {
		return this.#items(`operations/${service}`);
	}

	keys(): AttributeKeysAnswer['keys'] {
		return this.#items('keys');
	}

	values(scope: string, key: string): AttributeValuesAnswer['values'] {
		return this.#items(`values/${scope}/${key}`);
	}

	askServices(): void {
		this.#ask('services', async () => (await api.services()).services.map((service) => service.name));
	}

	askOperations(service: string): void {
		this.#ask(`operations/${service}`, async () => (await api.operations(service)).operations);
	}

	askKeys(): void {
		this.#ask('keys', async () => (await api.attributeKeys()).keys);
	}

	askValues(scope: string, key: string): void {
		this.#ask(`values/${scope}/${key}`, async () => (await api.attributeValues(scope, key, VALUES_LIMIT)).values);
	}

	#items<T>(name: string): T[] {
		return (this.#entries.get(name)?.items ?? []) as T[];
	}

	#ask(name: string, load: () => Promise<unknown[]>): void {
		const known = this.#entries.get(name);
		if (this.#pending.has(name) || (known && Date.now() - known.askedAtMillis < FRESH_MILLIS)) return;
		this.#pending.add(name);
		load()
			.then((items) => {
				const entries = new Map(this.#entries);
				entries.delete(name);
				entries.set(name, { items, askedAtMillis: Date.now() });
				const oldest = entries.keys().next().value;
				if (entries.size > LISTS_KEPT_MAX && oldest !== undefined) entries.delete(oldest);
				this.#entries = entries;
			})
			// A field without suggestions still works; the search itself will say what is wrong.
			.catch(() => undefined)
			.finally(() => this.#pending.delete(name));
	}
}

export const completion = new Completion();
