/** What the finder needs of a trace; small enough to hand to a worker once. */
export interface FindTable {
	/** All span ids joined, 16 lower-case digits each. */
	ids: string;
	names: string[];
	services: string[];
	name: Int32Array;
	service: Int32Array;
}

const ID_LENGTH = 16;
/** Shorter than this, hexadecimal text would match ids by chance everywhere. */
const ID_QUERY_LENGTH_MIN = 4;

export function findTable(
	ids: string[],
	names: string[],
	services: string[],
	name: ArrayLike<number>,
	service: ArrayLike<number>
): FindTable {
	return {
		ids: ids.map((id) => id.toLowerCase().padEnd(ID_LENGTH, ' ').slice(0, ID_LENGTH)).join(''),
		names,
		services,
		name: Int32Array.from(name),
		service: Int32Array.from(service)
	};
}

/** Spans whose name, service or id contains the text, in any case; ascending. Empty text finds nothing. */
export function findSpans(table: FindTable, query: string): Int32Array {
	const text = query.trim().toLowerCase();
	if (text === '') return new Int32Array(0);
	const nameHit = flags(table.names, text);
	const serviceHit = flags(table.services, text);
	const count = table.name.length;
	const idHit = idHits(table.ids, count, text);
	const found = new Int32Array(count);
	let foundCount = 0;
	for (let span = 0; span < count; span += 1) {
		if (nameHit[table.name[span]!] || serviceHit[table.service[span]!] || idHit?.[span]) {
			found[foundCount] = span;
			foundCount += 1;
		}
	}
	return found.slice(0, foundCount);
}

function flags(texts: string[], query: string): Uint8Array {
	return Uint8Array.from(texts, (text) => (text.toLowerCase().includes(query) ? 1 : 0));
}

function idHits(ids: string, count: number, query: string): Uint8Array | null {
	if (query.length < ID_QUERY_LENGTH_MIN || query.length > ID_LENGTH || !/^[0-9a-f]+$/.test(query)) return null;
	const hits = new Uint8Array(count);
	for (let at = ids.indexOf(query); at !== -1; ) {
		const within = at % ID_LENGTH;
		const isWhole = within + query.length <= ID_LENGTH;
		if (isWhole) hits[(at - within) / ID_LENGTH] = 1;
		// After a hit the rest of that id is of no interest; text that runs over two ids is no hit.
		at = ids.indexOf(query, isWhole ? at - within + ID_LENGTH : at + 1);
	}
	return hits;
}

/** Matches of both sources as nodes in tree order, each once. */
export function mergeMatches(position: Int32Array, ...sources: ArrayLike<number>[]): Int32Array {
	const all = new Set<number>();
	for (const source of sources) {
		for (let index = 0; index < source.length; index += 1) {
			const span = source[index]!;
			if (span >= 0 && span < position.length) all.add(span);
		}
	}
	return Int32Array.from(all).sort((a, b) => position[a]! - position[b]!);
}

/** The next (or previous) match from a position in tree order, going round; -1 when there is none. */
export function stepMatch(
	matches: Int32Array,
	position: Int32Array,
	fromPosition: number,
	direction: 1 | -1
): number {
	if (matches.length === 0) return -1;
	if (direction === 1) {
		for (let index = 0; index < matches.length; index += 1) {
			if (position[matches[index]!]! > fromPosition) return index;
		}
		return 0;
	}
	for (let index = matches.length - 1; index >= 0; index -= 1) {
		if (position[matches[index]!]! < fromPosition) return index;
	}
	return matches.length - 1;
}
