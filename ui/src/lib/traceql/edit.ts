/** Changes to a query's text. */
import { scan } from './scan';

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
