/** The queries that were saved under a name, for all who read this tenant's traces. */
import { here } from '$lib/address/here';
import { hrefOfSaved } from '$lib/address/saved';
import { isOfOneTenant } from '$lib/address/scope';
import { Round } from '$lib/ask/round';
import type { Entry } from './palette';

const round = new Round();
export const saved = round.panel(() => (isOfOneTenant(here.scope) ? here.api.savedQueries() : null));

/** Asks for them anew; returns what ends that. */
export const askSaved = () => round.begin();

/** As the palette and the rail offer them. */
export const savedEntries = (): (Entry & { key: string; open: string })[] =>
	(saved.answer?.queries ?? []).flatMap(({ key, name, description, address }) => {
		const open = hrefOfSaved(address, here.scope);
		return open === null ? [] : [{ key, kind: 'saved' as const, text: name, note: description, open }];
	});
