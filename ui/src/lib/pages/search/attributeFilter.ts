/** The comparison operators of `attr=`, longest first so that `!=` is not read as something else. */
export const OPERATORS = ['=~', '!~', '!=', '>=', '<=', '=', '>', '<'] as const;
export type Operator = (typeof OPERATORS)[number];

export interface AttributeFilter {
	key: string;
	operator: Operator;
	value: string;
}

const WHOLE = /^\s*([^\s=!<>~]+)\s*(=~|!~|!=|>=|<=|=|>|<)\s*(.*?)\s*$/s;

/** `http.route = /cart` in its parts; null when it is not (yet) key, operator and value. */
export function parseAttributeFilter(text: string): AttributeFilter | null {
	const match = WHOLE.exec(text);
	if (!match || match[3] === '') return null;
	return { key: match[1]!, operator: match[2] as Operator, value: unquote(match[3]!) };
}

function unquote(value: string): string {
	const quoted = /^"(.*)"$/s.exec(value);
	return quoted ? quoted[1]!.replaceAll('\\"', '"') : value;
}

/** As the API takes it, without spaces around the operator. */
export function formatAttributeFilter(filter: AttributeFilter): string {
	return `${filter.key}${filter.operator}${filter.value}`;
}

/** Which part of the filter the text is in, for completion. */
export type Typing =
	| { part: 'key'; text: string }
	| { part: 'operator'; key: string; text: string }
	| { part: 'value'; key: string; operator: Operator; text: string };

export function typingIn(text: string): Typing {
	const value = /^\s*([^\s=!<>~]+)\s*(=~|!~|!=|>=|<=|=|>|<)(?![=~])\s*(.*)$/s.exec(text);
	if (value) return { part: 'value', key: value[1]!, operator: value[2] as Operator, text: value[3]! };
	const operator = /^\s*([^\s=!<>~]+)(\s+|(?=[=!<>~]))([=!<>~]*)$/s.exec(text);
	if (operator) return { part: 'operator', key: operator[1]!, text: operator[3]! };
	return { part: 'key', text: text.trim() };
}

/** `span.http.route` as scope and key; without a prefix the scope is empty and means either. */
export function splitScope(key: string): { scope: '' | 'span' | 'resource'; key: string } {
	for (const scope of ['span', 'resource'] as const) {
		if (key.startsWith(`${scope}.`)) return { scope, key: key.slice(scope.length + 1) };
	}
	return { scope: '', key };
}
