import type { Attribute, Mark } from '$lib/api/types';

/** Lists and maps up to this long stay on one line. */
const ONE_LINE_LENGTH_MAX = 90;

/** An attribute's value as text: JSON for lists and maps, indented when long; what it says otherwise. */
export function attributeText(attribute: Attribute): string {
	const { type, value } = attribute;
	if (type === 'empty' || value === null || value === undefined) return '';
	if (type === 'array' || type === 'kvlist' || typeof value === 'object') {
		const spaced = JSON.stringify(value, null, 1).replace(/\n\s*/g, ' ');
		return spaced.length <= ONE_LINE_LENGTH_MAX ? spaced : JSON.stringify(value, null, 2);
	}
	return String(value);
}

/** Only plain values can be searched for with `=`. */
export function isSearchable(attribute: Attribute): boolean {
	return ['string', 'int', 'double', 'bool'].includes(attribute.type) && attributeText(attribute) !== '';
}

/** Attributes whose key or value contains the text, in key order. */
export function filterAttributes(attributes: Attribute[], text: string): Attribute[] {
	const wanted = text.trim().toLowerCase();
	return attributes
		.filter(
			(attribute) =>
				wanted === '' ||
				attribute.key.toLowerCase().includes(wanted) ||
				attributeText(attribute).toLowerCase().includes(wanted)
		)
		.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
}

/** What the marks of a repaired or doubtful span mean. */
export const MARK_TEXTS: Readonly<Record<Mark, string>> = {
	end_before_start: 'It ended before it started; its duration is stored as zero.',
	value_cut: 'A value, a name or another text was too long and has been cut.',
	over_limit: 'It had too many attributes, events or links, or some nested too deep; those were dropped.',
	invalid_utf8: 'A text was no UTF-8; the wrong bytes were replaced.',
	no_end: 'It had no end; its duration is stored as zero.',
	unknown_enum: 'Its kind or status was a number that OpenTelemetry does not know.',
	own_parent: 'It named itself as its parent; it is stored as a root.'
};
