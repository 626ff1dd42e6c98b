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
	keys: () => once('keys', async () => (await api.attributeKeys()).keys),
	values: (scope, key) =>
		once(`values/${scope}/${key}`, async () => (await api.attributeValues(scope, key, VALUES_LIMIT)).values),
	services: () => once('services', async () => (await api.services()).services.map((service) => service.name)),
	operations: () => once('operations', async () => (await api.operations('')).operations)
};
