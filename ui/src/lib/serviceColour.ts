/** How many `--service-N` tokens the theme defines. */
export const SERVICE_COLOUR_COUNT = 24;

/** FNV-1a of the name and nothing else: a service has one colour for everyone, everywhere, and two may share one. */
export function serviceColourIndex(service: string): number {
	let hash = 0x811c9dc5;
	for (let index = 0; index < service.length; index += 1) {
		hash ^= service.charCodeAt(index);
		hash = Math.imul(hash, 0x01000193);
	}
	// The low bits of FNV-1a are weak on short names; fold the high half in.
	hash ^= hash >>> 15;
	return (hash >>> 0) % SERVICE_COLOUR_COUNT;
}

/** The colour as a CSS value; it follows the theme. */
export function serviceColour(service: string): string {
	return `var(--service-${serviceColourIndex(service)})`;
}
