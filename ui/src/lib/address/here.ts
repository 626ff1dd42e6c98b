/** What the address of this page says of every page: links take it along, and the server is asked by it. */
import { page } from '$app/state';
import { apiOf } from '$lib/api/client';
import { addressOf } from './codec';
import { queryPage, searchPage, tracePage, type QueryState, type SearchState, type TraceState } from './pages';
import { SCOPE, type Scope } from './scope';

const anyPage = addressOf('', SCOPE);

export const here = {
	get scope(): Scope {
		return anyPage.read(page.url.searchParams);
	},
	get api() {
		return apiOf(here.scope.tenant);
	},
	/** This page in another scope. */
	hrefIn: (part: Partial<Scope>) => anyPage.within(page.url, part)
};

export const toSearch = (part: Partial<SearchState> = {}) => searchPage.href({ ...here.scope, ...part });
export const toQuery = (part: Partial<QueryState> = {}) => queryPage.href({ ...here.scope, ...part });
/** The search that finds traces with one value; without a range of its own, a trace may be older than the usual one. */
export function toAttributeSearch(scope: 'span' | 'resource', key: string, value: string): string {
	const range = here.scope.range === SCOPE.range.initial ? { preset: '24h' as const } : here.scope.range;
	return toSearch({ attributes: [`${scope}.${key}=${value}`], range });
}
export const toTrace = (traceId: string, part: Partial<TraceState> = {}) =>
	tracePage.href({ ...here.scope, ...part }, traceId);
