/** What could stand at a place of a query, judged by the tokens before it. Knows no editor and no server. */
import { scan, type Token } from './scan';
import { AGGREGATES, METRICS_FUNCTIONS } from './vocabulary';

/** `from` is where the text begins that a completion replaces. */
export type Context =
	| { expects: 'nothing'; from: number }
	/** The beginning of a query or of a group. */
	| { expects: 'spanset'; from: number; first: boolean }
	/** After `|`; `metrics` when time series come in. */
	| { expects: 'stage'; from: number; metrics: boolean }
	| { expects: 'field'; from: number; literals: boolean }
	/** A value of a field; `quoted` when the text is inside a string literal. */
	| { expects: 'value'; from: number; field: string; quoted: '"' | '`' | null }
	/** After a field or a value inside braces. */
	| { expects: 'operator'; from: number; compared: boolean }
	/** After `}` or a group of spans. */
	| { expects: 'relation'; from: number }
	/** After an aggregate, which wants a comparison. */
	| { expects: 'comparison'; from: number }
	/** After a metrics function. */
	| { expects: 'grouping'; from: number; grouped: boolean }
	| { expects: 'hint'; from: number };

/**
 * What is said before a place about the spans there: the conditions before it inside the same braces, or, outside of braces,
 * the whole query so far. Empty when nothing is. It ends anywhere, which the server puts up with.
 */
export function saidBefore(text: string, position: number): string {
	const before = text.slice(0, position);
	const open: number[] = [];
	for (const token of scan(before)) {
		if (token.kind !== 'symbol') continue;
		if (token.text === '{') open.push(token.from);
		else if (token.text === '}') open.pop();
	}
	const braces = open.at(-1);
	if (braces === undefined) return before.includes('{') ? before.trim() : '';
	const inside = before.slice(braces);
	return inside.includes('&&') ? inside.trim() : '';
}

interface Bracket {
	open: '{' | '(' | '[';
	/** The function whose arguments are inside. */
	call: string | null;
	/** How many commas came so far. */
	commas: number;
}

const names = (terms: readonly { label: string }[]) => new Set(terms.map((term) => term.label));
const SERIES = names(METRICS_FUNCTIONS);
const AGGREGATE = names(AGGREGATES);
const CALLS = new Set([...SERIES, ...AGGREGATE, 'by', 'select', 'coalesce', 'topk', 'bottomk', 'with']);
const COMPARES = new Set(['=', '!=', '<', '<=', '>', '>=', '=~', '!~']);
const JOINS = new Set(['&&', '||', '!', '+', '-', '*', '/', '%', '^']);
const STRUCTURE = new Set([
	'&&',
	'||',
	'>',
	'>>',
	'<',
	'<<',
	'~',
	'!>',
	'!>>',
	'!<',
	'!<<',
	'!~',
	'&>',
	'&>>',
	'&<',
	'&<<',
	'&~'
]);

export function contextAt(text: string, position: number): Context {
	const tokens = scan(text.slice(0, position));
	const last = tokens.at(-1);
	if (last?.kind === 'comment' && !last.closed) return { expects: 'nothing', from: position };
	const before = tokens.filter((token) => token.kind !== 'comment');
	const typed = before.at(-1);
	if (typed?.kind === 'string' && typed.to === position) return insideString(before.slice(0, -1), typed);
	const isTyping = typed !== undefined && typed.to === position && /^(word|scoped|attribute|number)$/.test(typed.kind);
	return isTyping ? expected(before.slice(0, -1), typed.from) : expected(before, position);
}

function insideString(before: Token[], string: Token): Context {
	if (string.closed) return { expects: 'nothing', from: string.to };
	const context = expected(before, string.from + 1);
	if (context.expects !== 'value') return { expects: 'nothing', from: string.to };
	return { ...context, quoted: string.text[0] as '"' | '`' };
}

function expected(before: Token[], from: number): Context {
	const { stack, closedCall } = bracketsOf(before);
	const inner = stack.at(-1);
	if (stack.some((bracket) => bracket.open === '{')) return inBraces(before, from, inner);
	if (inner?.call) return inCall(before, from, inner);
	return outside(before, from, closedCall);
}

/** The brackets open at the end, and the call that the last token closed, if it did. */
function bracketsOf(tokens: Token[]): { stack: Bracket[]; closedCall: string | null } {
	const stack: Bracket[] = [];
	let closedCall: string | null = null;
	tokens.forEach((token, index) => {
		closedCall = null;
		if (token.kind !== 'symbol') return;
		const open = token.text;
		if (open === '{' || open === '(' || open === '[') {
			const word = tokens[index - 1];
			const call = open === '(' && word?.kind === 'word' && CALLS.has(word.text) ? word.text : null;
			stack.push({ open, call, commas: 0 });
		} else if (open === '}' || open === ')' || open === ']') closedCall = stack.pop()?.call ?? null;
		else if (open === ',' && stack.length > 0) stack.at(-1)!.commas += 1;
	});
	return { stack, closedCall };
}

function inBraces(before: Token[], from: number, inner: Bracket | undefined): Context {
	if (inner?.open === '[') {
		const field = fieldBeforeArray(before);
		return field ? { expects: 'value', from, field, quoted: null } : { expects: 'nothing', from };
	}
	return inExpression(before, from);
}

/** Inside `{ … }`, or among the arguments of `by(`: a field, an operator or a value. */
function inExpression(before: Token[], from: number): Context {
	const last = before.at(-1);
	if (last?.kind === 'symbol') {
		if (COMPARES.has(last.text)) {
			const field = before.at(-2);
			if (field && isField(field)) return { expects: 'value', from, field: field.text, quoted: null };
			return { expects: 'field', from, literals: true };
		}
		if (/^[{(,]$/.test(last.text) || JOINS.has(last.text)) return { expects: 'field', from, literals: false };
		if (last.text === ')' || last.text === ']') return { expects: 'operator', from, compared: true };
		return { expects: 'nothing', from };
	}
	const previous = before.at(-2);
	const compared = previous?.kind === 'symbol' && COMPARES.has(previous.text);
	return { expects: 'operator', from, compared };
}

function isField(token: Token): boolean {
	return token.kind === 'attribute' || token.kind === 'scoped' || token.kind === 'word';
}

function fieldBeforeArray(before: Token[]): string | null {
	const open = before.findLastIndex((token) => token.kind === 'symbol' && token.text === '[');
	const field = before[open - 2];
	return open >= 2 && field && isField(field) ? field.text : null;
}

function inCall(before: Token[], from: number, inner: Bracket): Context {
	const atArgument = /^[(,]$/.test(before.at(-1)?.text ?? '');
	switch (inner.call) {
		case 'by':
		case 'select':
			return atArgument ? { expects: 'field', from, literals: false } : { expects: 'nothing', from };
		case 'compare':
			return inner.commas === 0 && atArgument
				? { expects: 'spanset', from, first: false }
				: { expects: 'nothing', from };
		case 'with':
			return atArgument ? { expects: 'hint', from } : { expects: 'nothing', from };
		case 'count':
		case 'rate':
		case 'count_over_time':
		case 'coalesce':
		case 'topk':
		case 'bottomk':
			return { expects: 'nothing', from };
		default:
			return inner.commas === 0 && atArgument
				? { expects: 'field', from, literals: false }
				: { expects: 'nothing', from };
	}
}

function outside(before: Token[], from: number, closedCall: string | null): Context {
	const last = before.at(-1);
	if (!last) return { expects: 'spanset', from, first: true };
	if (last.kind !== 'symbol') return { expects: 'nothing', from };
	if (last.text === '(') return { expects: 'spanset', from, first: true };
	if (last.text === '|') return { expects: 'stage', from, metrics: stageBefore(before) };
	if (last.text === '}') return { expects: 'relation', from };
	if (last.text === ')') return afterCall(before, from, closedCall);
	if (STRUCTURE.has(last.text)) {
		return before.at(-2)?.text === '}' ? { expects: 'spanset', from, first: false } : { expects: 'nothing', from };
	}
	return { expects: 'nothing', from };
}

function afterCall(before: Token[], from: number, call: string | null): Context {
	if (call === null) return { expects: 'relation', from };
	if (SERIES.has(call)) return { expects: 'grouping', from, grouped: false };
	if (call === 'topk' || call === 'bottomk') return { expects: 'grouping', from, grouped: true };
	if (call === 'by' && !isStage(before)) return { expects: 'grouping', from, grouped: true };
	if (AGGREGATE.has(call)) return { expects: 'comparison', from };
	return { expects: 'nothing', from };
}

/** Whether the `by(…)` just closed is a stage of its own, not the grouping of a metrics function. */
function isStage(before: Token[]): boolean {
	const by = before.findLastIndex((token) => token.kind === 'word' && token.text === 'by');
	return by <= 0 || before[by - 1]!.text === '|' || before[by - 1]!.text === '(';
}

/** Whether time series flow into the stage after the last `|`. */
function stageBefore(before: Token[]): boolean {
	const pipe = before.slice(0, -1).findLastIndex((token) => token.kind === 'symbol' && token.text === '|');
	const stage = before[pipe + 1];
	return stage?.kind === 'word' && (SERIES.has(stage.text) || stage.text === 'topk' || stage.text === 'bottomk');
}
