/** What a query asks for, read off its text before it runs. What its answer is the answer says itself. */
import { scan } from '$lib/traceql/scan';
import { METRICS_FUNCTIONS } from '$lib/traceql/vocabulary';

export interface QueryDescription {
	kind: 'spans' | 'metrics';
	/** Two sets of spans are compared over the range as a whole. */
	isComparison: boolean;
}

const SERIES = new Set(METRICS_FUNCTIONS.map((term) => term.label));

export function describeQuery(query: string): QueryDescription {
	const calls = callsOf(query);
	return { kind: calls.length === 0 ? 'spans' : 'metrics', isComparison: calls.length === 1 && calls[0] === 'compare' };
}

/** The functions that compute series. */
function callsOf(query: string): string[] {
	const tokens = scan(query).filter((token) => token.kind !== 'comment');
	const calls: string[] = [];
	let braces = 0;
	tokens.forEach((token, index) => {
		if (token.text === '{') braces += 1;
		if (token.text === '}') braces -= 1;
		const isCall = braces === 0 && token.kind === 'word' && SERIES.has(token.text) && tokens[index + 1]?.text === '(';
		if (isCall) calls.push(token.text);
	});
	return calls;
}

/**
 * The query with one more condition in its first braces, as a click on a difference wants it. The condition comes
 * after a `&&`, and what stood there goes into parentheses if it holds an `||`, which binds no looser.
 */
export function withCondition(query: string, condition: string): string {
	const tokens = scan(query);
	const open = tokens.findIndex((token) => token.text === '{');
	const close = tokens.findIndex((token, index) => index > open && token.text === '}');
	if (open === -1 || close === -1) return `{ ${condition} }`;
	const inner = query.slice(tokens[open]!.to, tokens[close]!.from).trim();
	const hasOr = tokens.slice(open, close).some((token) => token.text === '||');
	const kept = hasOr ? `(${inner})` : inner;
	const joined = inner === '' ? condition : `${kept} && ${condition}`;
	return `${query.slice(0, tokens[open]!.from)}{ ${joined} }${query.slice(tokens[close]!.to)}`;
}
