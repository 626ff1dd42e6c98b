import type { SearchState } from '$lib/address/pages';
import { fieldText, isOfService, quoted, withCondition, withoutHints } from '$lib/traceql/edit';
import { parseAttributeFilter, splitScope } from './attributeFilter';

/** A value as TraceQL writes it: numbers and booleans bare, everything else quoted. */
function literal(value: string, operator: string): string {
	if (operator === '=~' || operator === '!~') return quoted(value);
	return /^-?\d+(\.\d+)?$|^(true|false)$/.test(value) ? value : quoted(value);
}

/** The filters as one TraceQL query, so that someone can start from them when they switch over. */
export function traceqlOf(state: SearchState): string {
	const terms: string[] = [];
	if (state.service) terms.push(isOfService(state.service));
	if (state.operation) terms.push(`name = ${quoted(state.operation)}`);
	if (state.status) terms.push(`status = ${state.status}`);
	if (state.kind) terms.push(`kind = ${state.kind}`);
	if (state.minDuration) terms.push(`duration >= ${state.minDuration}`);
	if (state.maxDuration) terms.push(`duration <= ${state.maxDuration}`);
	for (const text of state.attributes) {
		const filter = parseAttributeFilter(text);
		if (!filter) continue;
		const { scope, key } = splitScope(filter.key);
		terms.push(`${fieldText(scope, key)} ${filter.operator} ${literal(filter.value, filter.operator)}`);
	}
	return terms.length === 0 ? '{ }' : `{ ${terms.join(' && ')} }`;
}

/** The search for spans of one service alone, said the way it was said. */
export const ofService = (state: SearchState, service: string): Partial<SearchState> =>
	state.traceql === null
		? { service }
		: { traceql: narrowed(queryOf(state), isOfService(service)) };

/** The query with one more condition on what it finds: in its braces if that is all there is, else as one more stage. */
export function narrowed(query: string, condition: string): string {
	const plain = withoutHints(query);
	const isPlain = /^\{[^{}]*\}$/.test(plain);
	const hints = query.trim().slice(plain.length);
	return (isPlain ? withCondition(plain, condition) : `${plain} | { ${condition} }`) + hints;
}

/** The search as one query, whichever way it says it. */
export const queryOf = (state: SearchState) => state.traceql?.trim() || traceqlOf({ ...state, traceql: null });
