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
