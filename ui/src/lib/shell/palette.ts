/** What the palette finds for what is typed, and in which order. */
import { traceIdIn } from '$lib/address/pages';

export const KINDS = ['trace', 'page', 'action', 'saved', 'query', 'service', 'operation'] as const;
export type Kind = (typeof KINDS)[number];

/** What can be gone to, or done. */
export interface Entry {
	kind: Kind;
	text: string;
	/** Written beside it. */
	note?: string;
	keys?: readonly string[];
	/** Where it leads, or what it does. */
	open: string | (() => void);
}

/** More than these in a list help nobody. */
export const SHOWN_MAX = 50;
/** Of those the more there are, the less each is worth. */
const OF_ONE_KIND_MAX = 12;
/** Offered before anything is typed. */
const AT_FIRST: readonly Kind[] = ['page', 'saved', 'query', 'action'];

/** How well a text fits what is typed, word by word; null where a word does not occur in it. */
export function fit(text: string, typed: string): number | null {
	const low = text.toLowerCase();
	let sum = -low.length / 1000;
	for (const word of typed.toLowerCase().split(/\s+/)) {
		const one = fitOfWord(low, word);
		if (one === null) return null;
		sum += one;
	}
	return sum;
}

function fitOfWord(text: string, word: string): number | null {
	const at = text.indexOf(word);
	if (at === 0) return text.length === word.length ? 5 : 4;
	if (at > 0) return /[\p{L}\p{N}]/u.test(text[at - 1]!) ? 2 : 3;
	// Its letters in their order, each anywhere.
	let from = 0;
	for (const letter of word) {
		from = text.indexOf(letter, from) + 1;
		if (from === 0) return null;
	}
	return 1;
}

/** Of all entries those that fit, the best first, and how many there are of those. */
export function found(entries: readonly Entry[], typed: string): { shown: Entry[]; total: number } {
	const asked = typed.trim();
	const fitting = entries.flatMap((entry) => {
		if (asked === '') return AT_FIRST.includes(entry.kind) ? [{ entry, fits: 0 }] : [];
		// What is typed is its id.
		const fits = entry.kind === 'trace' ? Infinity : fit(entry.text, asked);
		return fits === null ? [] : [{ entry, fits }];
	});
	fitting.sort((a, b) => b.fits - a.fits || KINDS.indexOf(a.entry.kind) - KINDS.indexOf(b.entry.kind));
	const counts = new Map<Kind, number>();
	const shown = fitting.filter(({ entry: { kind } }) => {
		counts.set(kind, (counts.get(kind) ?? 0) + 1);
		return counts.get(kind)! <= OF_ONE_KIND_MAX;
	});
	return { shown: shown.slice(0, SHOWN_MAX).map(({ entry }) => entry), total: fitting.length };
}

/** The trace whose id is typed; one of 16 digits may be meant otherwise, but nothing else is as likely. */
export function traceTyped(typed: string, toTrace: (id: string) => string): Entry[] {
	const id = traceIdIn(typed);
	return id === null ? [] : [{ kind: 'trace', text: `Trace ${id}`, open: toTrace(id) }];
}
