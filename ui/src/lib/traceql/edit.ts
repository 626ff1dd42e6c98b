/** Changes to a query's text. */
import type { Attribute } from '$lib/api/types';
import { scan } from './scan';

/** What a span is shown under whose resource names no service. */
const UNKNOWN_SERVICE = 'unknown_service';

/** A text as TraceQL writes it, which knows all of JSON's escapes. */
export const quoted = (text: string): string => JSON.stringify(text);

/** An attribute as TraceQL writes it; names with characters of the language stand in quotes, where only two are escaped. */
export function fieldText(scope: string, key: string): string {
	const isPlain = /^[\p{L}\p{N}_][\p{L}\p{N}_.\-/]*$/u.test(key) && (scope !== '' || !/^\d/.test(key));
	const prefix = scope === 'either' ? '' : scope;
	return `${prefix}.${isPlain ? key : `"${key.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`}`;
}

/** The condition that finds what is shown under the name of a service. */
export const isOfService = (name: string): string =>
	name === UNKNOWN_SERVICE
		? `(resource.service.name = ${quoted(name)} || resource.service.name = "" || resource.service.name = nil)`
		: `resource.service.name = ${quoted(name)}`;

/** How a service is shown that a label names. */
export const shownService = (name: string): string => name || UNKNOWN_SERVICE;

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

/** The condition that a value stands for, as TraceQL: strings in quotes, the words of statuses and kinds without. */
export function conditionOf(field: string, value: Attribute): string {
	if (value.type === 'empty' || value.value === null) return `${field} = nil`;
	const isWord = /^(span:)?(status|kind)$/.test(field);
	if (isWord || value.type === 'int' || value.type === 'double' || value.type === 'bool')
		return `${field} = ${String(value.value)}`;
	return `${field} = ${quoted(String(value.value))}`;
}

/** What a search finds, as a query that more can follow: how it is to be searched stands at the end. */
export const withoutHints = (query: string): string => query.trim().replace(/\s*\bwith\s*\([^(){}]*\)$/, '');
