import type { AttributeKeysAnswer, AttributeValuesAnswer } from '$lib/api/types';
import type { Suggestion } from '$lib/components/Combobox.svelte';
import { OPERATORS, splitScope, typingIn } from './attributeFilter';

/** Names that contain the text, those that begin with it first. */
export function matching(names: string[], text: string): string[] {
	const wanted = text.trim().toLowerCase();
	if (wanted === '') return names;
	const beginning: string[] = [];
	const containing: string[] = [];
	for (const name of names) {
		const at = name.toLowerCase().indexOf(wanted);
		if (at === 0) beginning.push(name);
		else if (at > 0) containing.push(name);
	}
	return [...beginning, ...containing];
}

const OPERATOR_NOTES: Record<string, string> = {
	'=': 'is',
	'!=': 'is not',
	'=~': 'matches regex',
	'!~': 'does not match regex',
	'>': 'greater',
	'>=': 'at least',
	'<': 'less',
	'<=': 'at most'
};

/** Suggestions for a half-written `key op value`. */
export function suggestAttribute(
	text: string,
	keys: AttributeKeysAnswer['keys'],
	/** Those of the key that is written. */
	known: AttributeValuesAnswer['values']
): Suggestion[] {
	const typing = typingIn(text);
	if (typing.part === 'key') {
		const names = keys.map(({ scope, key }) => (scope === 'span' || scope === 'resource' ? `${scope}.${key}` : key));
		return matching(names, typing.text).map((name) => {
			const { scope, key } = splitScope(name);
			return { value: `${name} `, label: key, note: scope, continues: true };
		});
	}
	if (typing.part === 'operator') {
		return [...OPERATORS]
			.sort((a, b) => Object.keys(OPERATOR_NOTES).indexOf(a) - Object.keys(OPERATOR_NOTES).indexOf(b))
			.filter((operator) => operator.startsWith(typing.text))
			.map((operator) => ({
				value: `${typing.key} ${operator} `,
				label: operator,
				note: OPERATOR_NOTES[operator],
				continues: true
			}));
	}
	const values = known.map(({ value }) => String(value));
	return matching(values, typing.text)
		.filter((value) => value !== '')
		.map((value) => ({ value: `${typing.key} ${typing.operator} ${value}`, label: value }));
}

/** Scope and key of a filter's key; without a prefix the first scope that knows the key. */
export function scopeOf(name: string, keys: AttributeKeysAnswer['keys']): { scope: string; key: string } {
	const split = splitScope(name);
	if (split.scope !== '') return split;
	return { scope: keys.find((item) => item.key === name)?.scope ?? 'span', key: name };
}
