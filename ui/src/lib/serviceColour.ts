/** How many `--service-N` tokens the theme defines. */
export const SERVICE_COLOUR_COUNT = 24;

const STORAGE_KEY = 'tracehouse.serviceColours';

/** The colour a name asks for: FNV-1a of it, so that most services look the same to everyone, everywhere. */
export function preferredColourIndex(service: string): number {
	let hash = 0x811c9dc5;
	for (let index = 0; index < service.length; index += 1) {
		hash ^= service.charCodeAt(index);
		hash = Math.imul(hash, 0x01000193);
	}
	// The low bits of FNV-1a are weak on short names; fold the high half in.
	hash ^= hash >>> 15;
	return (hash >>> 0) % SERVICE_COLOUR_COUNT;
}

/**
 * Which service has which colour. Two services that ask for the same one would be hard to tell apart in a waterfall,
 * so the later one takes a free colour, far from its own, and keeps it in this browser. When none is free, services
 * share the colours they ask for.
 */
export class ServiceColours {
	#indexByService = new Map<string, number>();
	#taken = new Set<number>();
	#save: (indexByService: Map<string, number>) => void;

	constructor(known: [string, number][] = [], save: (indexByService: Map<string, number>) => void = () => undefined) {
		for (const [service, index] of known) this.#assign(service, index);
		this.#save = save;
	}

	#assign(service: string, index: number): void {
		this.#indexByService.set(service, index);
		this.#taken.add(index);
	}

	index(service: string): number {
		const known = this.#indexByService.get(service);
		if (known !== undefined) return known;
		const preferred = preferredColourIndex(service);
		if (this.#taken.size >= SERVICE_COLOUR_COUNT) return preferred;
		// Seven and 24 share no divisor, so these steps visit every colour once, jumping over neighbouring hues.
		let index = preferred;
		while (this.#taken.has(index)) index = (index + 7) % SERVICE_COLOUR_COUNT;
		this.#assign(service, index);
		this.#save(this.#indexByService);
		return index;
	}
}

function stored(): [string, number][] {
	try {
		const entries = Object.entries(JSON.parse(localStorage.getItem(STORAGE_KEY) ?? '{}') as object);
		return entries
			.filter(([, index]) => Number.isInteger(index) && index >= 0 && index < SERVICE_COLOUR_COUNT)
			.slice(0, SERVICE_COLOUR_COUNT);
	} catch {
		return [];
	}
}

function store(indexByService: Map<string, number>): void {
	try {
		localStorage.setItem(STORAGE_KEY, JSON.stringify(Object.fromEntries(indexByService)));
	} catch {
		// Without storage the colours last as long as the page.
	}
}

const colours = new ServiceColours(stored(), store);

export function serviceColourIndex(service: string): number {
	return colours.index(service);
}

/** The colour as a CSS value; it follows the theme. */
export function serviceColour(service: string): string {
	return `var(--service-${serviceColourIndex(service)})`;
}
