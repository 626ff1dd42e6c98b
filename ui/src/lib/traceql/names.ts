import { api } from '$lib/api/client';
import type { Names } from './options';

/** Lists older than this are asked for again. */
const FRESH_MILLIS = 20_000;
const VALUES_LIMIT = 200;
/** How many lists are kept; the oldest goes first. */
const LISTS_KEPT_MAX = 64;

const lists = new Map<string, { asked: number; list: Promise<unknown> }>();

function once<T>(name: string, load: () => Promise<T>): Promise<T> {
	const known = lists.get(name);
	if (known && Date.now() - known.asked < FRESH_MILLIS) return known.list as Promise<T>;
	const list = load();
	// A list that never came is no list; the next time it is asked for again.
	list.catch(() => lists.delete(name));
	lists.delete(name);
	lists.set(name, { asked: Date.now(), list });
	const oldest = lists.keys().next().value;
	if (lists.size > LISTS_KEPT_MAX && oldest !== undefined) lists.delete(oldest);
	return list;
}

/** Names as the server knows them, each list remembered for a while. */
export const serverNames: Names = {
	keys: (q) => once(`keys/${q}`, async () => (await api.attributeKeys({ q })).keys),
	values: (scope, key, q) =>
		once(`values/${scope}/${key}/${q}`, async () => (await api.attributeValues(scope, key, VALUES_LIMIT, { q })).values),
	services: (q) => once(`services/${q}`, async () => (await api.services({ q })).services.map((service) => service.name)),
	operations: (q) => once(`operations/${q}`, async () => (await api.operations('', { q })).operations)
};
