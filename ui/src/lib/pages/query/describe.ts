/** What a query asks for, read off its text before it runs. What its answer is the answer says itself. */
import type { QueryState } from '$lib/address/pages';
import { withoutHints } from '$lib/traceql/edit';
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

/** What is asked of the server: spans may be shown as what they are over time, for each service. */
export function askedBy({ q, tab }: Pick<QueryState, 'q' | 'tab'>): (QueryDescription & { query: string }) | null {
	if (q === null) return null;
	const described = { ...describeQuery(q), query: q };
	if (described.kind !== 'spans' || tab !== 'series') return described;
	return { kind: 'metrics', isComparison: false, query: `${withoutHints(q)} | rate() by (resource.service.name)` };
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
