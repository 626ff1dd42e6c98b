import type { Attribute } from '$lib/api/types';

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
const MARK_TEXTS = new Map(Object.entries({
	end_before_start: 'It ended before it started; its duration was set to zero.',
	clock_skew_suspected: 'Its clock seems to run apart from its parent’s.',
	attribute_truncated: 'A value was too long and has been cut.',
	attributes_dropped: 'It had too many attributes; some were dropped.',
	time_far_off: 'Its time lies far from when it was received.'
}));

export function markText(mark: string): string {
	return MARK_TEXTS.get(mark) ?? mark.replaceAll('_', ' ');
}
