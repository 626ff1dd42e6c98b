/** The addresses of all pages. Every state worth sharing is in one of these tables. */
import { NEWEST_FIRST, SORT_KEYS, type Sort } from '$lib/traces/sort';
import { addressOf, field, integer, oneOf, text, textOrNull, texts, type StateOf } from './codec';
import { SCOPE } from './scope';

export const LIMITS = [20, 50, 100, 200, 500, 1000] as const;
export const RATES = [2, 10, 40, 200] as const;
export const STATUSES = ['error', 'ok', 'unset'] as const;
export const KINDS = ['server', 'client', 'internal', 'producer', 'consumer'] as const;
/** Lengths of steps to choose from; absent, the server picks one, and `all` means one step, the whole range. */
export const STEPS = ['1s', '10s', '30s', '1m', '5m', '15m', '1h', '6h', 'all'] as const;
export const QUERY_TABS = ['traces', 'spans', 'series'] as const;

const limit = integer('limit', 50, 1, 1000);

const sort = field<Sort>(
	'sort',
	NEWEST_FIRST,
	(said) => {
		const key = SORT_KEYS.find((item) => item === said.replace(/^-/, ''));
		return key && { key, descending: said.startsWith('-') };
	},
	({ key, descending }) => `${descending ? '-' : ''}${key}`
);

const FILTERS = {
	service: text('service'),
	operation: text('operation'),
	status: oneOf('status', STATUSES, ''),
	kind: oneOf('kind', KINDS, ''),
	minDuration: text('minDuration'),
	maxDuration: text('maxDuration'),
	/** `key op value` without spaces around the operator. */
	attributes: texts('attr')
};
const NO_FILTERS = Object.fromEntries(Object.entries(FILTERS).map(([name, { initial }]) => [name, initial])) as StateOf<
	typeof FILTERS
>;

/** TraceQL says it, or filters do. */
const settle = <S extends { traceql: string | null }>(state: S): S =>
	state.traceql === null ? state : { ...state, ...NO_FILTERS };

/** What is searched for, as the API takes it, too. `traceql` is null when filters say it. */
export const wanted = addressOf('', { traceql: textOrNull('q'), ...FILTERS }, settle);

/** A part of the heatmap: times in milliseconds, durations in nanoseconds, both ends included. */
export interface Picked {
	from: number;
	to: number;
	min: number;
	max: number;
}

const picked = field<Picked | null>(
	'pick',
	null,
	(said) => {
		const [from, to, min, max] = (/^(\d{1,15})-(\d{1,15})-(\d{1,15})-(\d{1,15})$/.exec(said) ?? []).slice(1).map(Number);
		if (from === undefined || to === undefined || min === undefined || max === undefined) return undefined;
		return from < to && min <= max ? { from, to, min, max } : undefined;
	},
	(pick) => pick && `${pick.from}-${pick.to}-${pick.min}-${pick.max}`
);

export const searchPage = addressOf(
	'/',
	{
		...wanted.fields,
		...SCOPE,
		limit,
		sort,
		/** The traces there are, or those that come. */
		view: oneOf('view', ['tail'], ''),
		/** Of those that come, how many are listed in a second at most. */
		rate: integer('rate', 10, 2, 200),
		/** What is drawn of durations: those of all spans that match, or of the traces that are listed. */
		plot: oneOf('plot', ['traces'], ''),
		/** What is different about it is shown. */
		pick: picked,
		/** The field, as TraceQL writes it, by whose values matches are counted; empty, by service. */
		by: text('by')
	},
	settle
);
export type SearchState = ReturnType<typeof searchPage.read>;

/** Without a query it offers examples; an address with one runs it. */
export const queryPage = addressOf('/query', {
	q: textOrNull('q', (said) => (said.trim() === '' ? undefined : said)),
	...SCOPE,
	step: oneOf('step', STEPS, ''),
	tab: oneOf('tab', QUERY_TABS, 'traces'),
	limit,
	sort
});
export type QueryState = ReturnType<typeof queryPage.read>;

/** The part of a trace on screen, in nanoseconds after its start. */
export interface TimeWindow {
	from: number;
	to: number;
}

export const tracePage = addressOf('/trace/', {
	/** The span whose details are open. */
	span: text('span'),
	find: text('find'),
	/** Nanoseconds after the start of the trace. */
	zoom: field<TimeWindow | null>(
		'zoom',
		null,
		(said) => {
			const [, from = NaN, to = NaN] = (/^(\d+)-(\d+)$/.exec(said) ?? []).map(Number);
			return Number.isFinite(from) && Number.isFinite(to) ? { from, to } : undefined;
		},
		(window) => window && `${Math.round(window.from)}-${Math.round(window.to)}`
	),
	...SCOPE
});
export type TraceState = ReturnType<typeof tracePage.read>;

/** A trace id as people paste it: spaces, dashes, quotes, `0x`, a whole address, or 16 digits; null when it is none. */
export function traceIdIn(pasted: string): string | null {
	const fromAddress = /\/traces?\/([0-9a-fA-F]{16,32})/.exec(pasted);
	const digits = (fromAddress?.[1] ?? pasted)
		.trim()
		.replace(/^0x/i, '')
		.replace(/["'\s-]/g, '')
		.toLowerCase();
	if (!/^[0-9a-f]{16}$|^[0-9a-f]{32}$/.test(digits) || /^0+$/.test(digits)) return null;
	return digits.padStart(32, '0');
}
