/** What a query will give, read off its text before it runs: how to ask for it, how to draw it, in which unit. */
import { scan, type Token } from '$lib/traceql/scan';
import { DURATION_FIELDS, METRICS_FUNCTIONS } from '$lib/traceql/vocabulary';

export type Unit = 'seconds' | 'per second' | 'count' | 'plain';

export interface QueryDescription {
	kind: 'spans' | 'metrics';
	/** How the answer of a metrics query is shown. */
	shape: 'series' | 'heatmap' | 'compare';
	unit: Unit;
}

const SERIES = new Set(METRICS_FUNCTIONS.map((term) => term.label));

export function describeQuery(query: string): QueryDescription {
	const tokens = scan(query).filter((token) => token.kind !== 'comment');
	const calls = callsOf(tokens);
	if (calls.length === 0) return { kind: 'spans', shape: 'series', unit: 'plain' };
	const alone = calls.length === 1 ? calls[0]!.name : '';
	const shape = alone === 'compare' ? 'compare' : alone === 'histogram_over_time' ? 'heatmap' : 'series';
	return { kind: 'metrics', shape, unit: unitOf(tokens, calls) };
}

interface Call {
	name: string;
	argument: string;
}

function callsOf(tokens: Token[]): Call[] {
	const calls: Call[] = [];
	let braces = 0;
	tokens.forEach((token, index) => {
		if (token.text === '{') braces += 1;
		if (token.text === '}') braces -= 1;
		const isCall = braces === 0 && token.kind === 'word' && SERIES.has(token.text) && tokens[index + 1]?.text === '(';
		if (isCall) calls.push({ name: token.text, argument: tokens[index + 2]?.text ?? '' });
	});
	return calls;
}

/** Multiplied or divided series have no unit that could be told from here; added ones keep theirs if all have it. */
function unitOf(tokens: Token[], calls: Call[]): Unit {
	let braces = 0;
	const scaled = tokens.some((token) => {
		if (token.text === '{') braces += 1;
		if (token.text === '}') braces -= 1;
		return braces === 0 && token.kind === 'symbol' && (token.text === '*' || token.text === '/');
	});
	const units = new Set(calls.map(unitOfCall));
	return scaled || units.size > 1 ? 'plain' : [...units][0]!;
}

function unitOfCall({ name, argument }: Call): Unit {
	if (name === 'rate') return 'per second';
	if (name === 'count_over_time' || name === 'compare' || name === 'histogram_over_time') return 'count';
	return DURATION_FIELDS.has(argument) ? 'seconds' : 'plain';
}

/** Whether the buckets of a histogram are durations, in seconds. */
export function bucketsAreSeconds(query: string): boolean {
	const call = callsOf(scan(query)).find(({ name }) => name === 'histogram_over_time');
	return call !== undefined && DURATION_FIELDS.has(call.argument);
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
