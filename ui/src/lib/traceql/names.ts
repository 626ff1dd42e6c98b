import { here } from '$lib/address/here';
import { mapped, once } from '$lib/ask/question';
import type { Names } from './options';

const VALUES_LIMIT = 200;

/** Names as the server knows them. */
export const serverNames: Names = {
	keys: (q) => once(mapped(here.api.attributeKeys({ q }), ({ keys }) => keys)),
	values: (scope, key, q) => once(mapped(here.api.attributeValues(scope, key, VALUES_LIMIT, { q }), ({ values }) => values)),
	services: (q) => once(mapped(here.api.services({ q }), ({ services }) => services.map(({ name }) => name))),
	operations: (q) => once(mapped(here.api.operations('', { q }), ({ operations }) => operations))
};
