/**
 * TraceQL cut into tokens, forgivingly: whatever a person has typed so far has some. This small scanner serves
 * completion and the page; highlighting has the whole grammar, which is loaded only with the editor.
 */

export type TokenKind = 'attribute' | 'word' | 'scoped' | 'number' | 'string' | 'comment' | 'symbol';

export interface Token {
	kind: TokenKind;
	text: string;
	from: number;
	to: number;
	/** False for a string or comment that the text ends in. */
	closed: boolean;
}

const PATTERNS: readonly [TokenKind, RegExp][] = [
	['comment', /\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)/y],
	['string', /"(?:[^"\\\n]|\\[^])*"?|`[^`]*`?/y],
	['number', /(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+|[\p{L}\d._]*)/uy],
	[
		'attribute',
		/(?:\b(?:span|resource|event|link|instrumentation|parent))?\.(?:"(?:[^"\\]|\\[^])*"?|[^\s{}(),=!~<>&|^"])*/uy
	],
	['scoped', /[\p{L}_][\p{L}\p{N}_]*:[\p{L}\p{N}_]*/uy],
	['word', /[\p{L}_][\p{L}\p{N}_]*/uy],
	['symbol', /[!&]?(?:>>|<<)|[!=<>]=|=~|!~|&~|[!&][<>]|&&|\|\||[^]/uy]
];

export function scan(text: string): Token[] {
	const tokens: Token[] = [];
	let at = 0;
	while (at < text.length) {
		if (/\s/.test(text[at]!)) {
			at += 1;
			continue;
		}
		const token = tokenAt(text, at);
		tokens.push(token);
		at = token.to;
	}
	return tokens;
}

function tokenAt(text: string, at: number): Token {
	for (const [kind, pattern] of PATTERNS) {
		pattern.lastIndex = at;
		const match = pattern.exec(text);
		if (match) return { kind, text: match[0], from: at, to: at + match[0].length, closed: isClosed(kind, match[0]) };
	}
	// The last pattern takes any character, so this is never reached; a whole character keeps the scan moving.
	return { kind: 'symbol', text: text[at]!, from: at, to: at + 1, closed: true };
}

function isClosed(kind: TokenKind, text: string): boolean {
	if (kind === 'comment') return text.startsWith('/*') && text.length >= 4 && text.endsWith('*/');
	if (kind !== 'string') return true;
	if (text.length < 2 || text.at(-1) !== text[0]) return false;
	if (text[0] === '`') return true;
	const backslashes = /\\*$/.exec(text.slice(0, -1))![0].length;
	return backslashes % 2 === 0;
}
