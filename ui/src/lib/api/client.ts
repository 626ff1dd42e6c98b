import {
	attributeKeysAnswer,
	attributeValuesAnswer,
	countAnswer,
	findAnswer,
	operationsAnswer,
	queryCheck,
	savedQueriesAnswer,
	savedQuery,
	searchAnswer,
	servicesAnswer,
	statusAnswer,
	tailAnswer
} from './reading';
import { metricsAnswer } from './readingMetrics';
import { compactTrace, spanDetail } from './readingTrace';
import { keptAnswers } from '$lib/ask/kept';
import type { Question } from '$lib/ask/question';
import type { Problem, SavedQuery } from './types';
import { fields, text } from './values';

/** Longer than the server takes for anything: whoever has not answered by then will not. */
const TIMEOUT_MILLIS = 60_000;

interface Failure extends Pick<Problem, 'title' | 'status'> {
	detail?: string;
	/** Asked again later, it may go well. */
	isPassing?: boolean;
	retryAfterMillis?: number | null;
}

/** A refused or failed request, in words a person can act on. */
export class ApiError extends Error {
	readonly title: string;
	readonly detail: string;
	/** 0 where nothing was answered. */
	readonly status: number;
	readonly isPassing: boolean;
	/** How long the server wants to be left alone; null when it does not say. */
	readonly retryAfterMillis: number | null;

	constructor({ title, status, detail = '', isPassing = isPassingStatus(status), retryAfterMillis = null }: Failure) {
		super(detail || title);
		this.name = 'ApiError';
		this.title = title;
		this.detail = detail;
		this.status = status;
		this.isPassing = isPassing;
		this.retryAfterMillis = retryAfterMillis;
	}
}

/** Nothing came at all, it came too late, too many ask, or the server is at fault; the rest is about the question. */
function isPassingStatus(status: number): boolean {
	return status === 0 || status === 408 || status === 429 || status >= 500;
}

/** Whatever was thrown, as an ApiError. */
export function asApiError(error: unknown): ApiError {
	if (error instanceof ApiError) return error;
	const detail = error instanceof Error ? error.message : String(error);
	return new ApiError({ title: 'Something went wrong in this page', status: 0, detail, isPassing: false });
}

async function failureOf(response: Response): Promise<Failure> {
	const { status } = response;
	const said = fields(await response.json().catch(() => null));
	return {
		title: text(said.title) || response.statusText || 'The request failed',
		status,
		detail: text(said.detail),
		retryAfterMillis: retryAfter(response.headers.get('retry-after'))
	};
}

/** Seconds, or a date. */
function retryAfter(said: string | null): number | null {
	if (said === null || said.trim() === '') return null;
	const millis = /^\s*\d+\s*$/.test(said) ? Number(said) * 1000 : Date.parse(said) - Date.now();
	return Number.isFinite(millis) ? Math.max(0, millis) : null;
}

interface Answered<T> {
	answer: T;
	bytes: number;
}

/** What the server answers, read by `read`; the answers' one way in. What is `sent` changes something. */
async function get<T>(
	path: string,
	tenant: string,
	read: (given: unknown) => T,
	wanted: AbortSignal,
	sent: RequestInit = {}
): Promise<Answered<T>> {
	// A browser refuses to send other letters at all; what else is no tenant the server says.
	if (!/^[ -~]*$/.test(tenant)) throw new ApiError(NO_TENANT);
	const late = new AbortController();
	const timer = setTimeout(() => late.abort(new ApiError(TIMED_OUT)), TIMEOUT_MILLIS);
	const signal = AbortSignal.any([wanted, late.signal]);
	// Without the header it is the tenant of those who name none.
	const headers = { ...sent.headers, accept: 'application/json', ...(tenant !== '' && { 'x-scope-orgid': tenant }) };
	const arrived = <V>(sent: Promise<V>): Promise<V> =>
		sent.catch(() => {
			throw signal.aborted ? signal.reason : new ApiError(UNREACHABLE);
		});
	try {
		const response = await arrived(fetch(`/api/v1/${path}`, { ...sent, signal, headers }));
		if (!response.ok) throw new ApiError(await failureOf(response));
		const body = response.status === 204 ? '{}' : await arrived(response.text());
		return { answer: read(objectIn(body, response.status)), bytes: body.length };
	} finally {
		clearTimeout(timer);
	}
}

const TIMED_OUT: Failure = {
	title: 'The server does not answer',
	status: 0,
	detail: `Nothing came within ${TIMEOUT_MILLIS / 1000} seconds. Ask for less, such as a shorter time, or look at how busy the server is.`
};
const UNREACHABLE: Failure = {
	title: 'The server cannot be reached',
	status: 0,
	detail: 'No answer came from Tracehouse. Check that it is running and that the network lets you through.'
};
const NO_TENANT: Failure = {
	title: 'There is no such tenant',
	status: 400,
	detail: 'The address names a tenant of other letters than a-z A-Z 0-9 _ and -.'
};
const UNREADABLE = {
	title: 'The answer cannot be read',
	detail: 'What came is no answer of Tracehouse. Check what stands between it and this page, such as a proxy.',
	isPassing: true
};

function objectIn(body: string, status: number): object {
	try {
		const given: unknown = JSON.parse(body);
		if (typeof given === 'object' && given !== null && !Array.isArray(given)) return given;
	} catch {
		// As unreadable as what is no object.
	}
	throw new ApiError({ ...UNREADABLE, status });
}

function withQuery(path: string, query: Record<string, string | undefined>): string {
	const params = new URLSearchParams();
	for (const [key, value] of Object.entries(query)) if (value) params.set(key, value);
	const text = params.toString();
	return text ? `${path}?${text}` : path;
}

/** One part of a path, whatever it holds. */
const segment = encodeURIComponent;

/** Among which spans names are looked for: those that a query selects, which may be unfinished. */
type Among = { q?: string };

/** A waterfall of so many spans is still quick; of a longer trace the page tells how many there are. */
const SPANS_MAX = 500_000;

/** Names are asked for again when they are older than this. */
const NAMES_HOLD_MILLIS = 20_000;

/** The questions there are, asked of one tenant, of several (`a|b`), or of that of those who name none (empty). */
export function apiOf(tenant: string) {
	/** An answer holds so long without being asked for again. */
	function question<T>(path: string, read: (given: unknown) => T, holdsMillis = 0): Question<T> {
		const key = `${tenant} ${path}`;
		return {
			key,
			ask: async (signal) => {
				const { answer, bytes } = await get(path, tenant, read, signal);
				if (holdsMillis > 0) keptAnswers.keep(key, answer, bytes, holdsMillis);
				return answer;
			},
			kept: () => (holdsMillis > 0 ? (keptAnswers.find(key) as T | undefined) : undefined)
		};
	}

	function names<T>(path: string, query: Record<string, string | undefined>, read: (given: unknown) => T): Question<T> {
		return question(withQuery(path, query), read, NAMES_HOLD_MILLIS);
	}

	/** Changes something at once; it is not asked again by itself. */
	const change = async <T>(path: string, read: (given: unknown) => T, sent: RequestInit): Promise<T> =>
		(await get(path, tenant, read, new AbortController().signal, sent)).answer;

	return {
		services: (among: Among = {}) => names('services', among, servicesAnswer),
		operations: (service: string, among: Among = {}) => names('operations', { service, ...among }, operationsAnswer),
		attributeKeys: (among: Among = {}) => names('attributes/keys', among, attributeKeysAnswer),
		attributeValues: (scope: string, key: string, limit: number, among: Among = {}) =>
			names('attributes/values', { scope, key, limit: String(limit), ...among }, attributeValuesAnswer),
		search: (params: URLSearchParams) => question(`search?${params}&targets=true`, searchAnswer),
		count: (params: URLSearchParams) => question(`search/count?${params}`, countAnswer),
		tail: (params: URLSearchParams) => question(`tail?${params}&targets=true`, tailAnswer),
		metrics: (params: URLSearchParams) => question(`metrics?${params}`, metricsAnswer),
		savedQueries: () => question('saved-queries', savedQueriesAnswer),
		/** `isNew`: only if none has the name. */
		saveQuery: (name: string, { description, address }: Pick<SavedQuery, 'description' | 'address'>, isNew: boolean) =>
			change(`saved-queries/${segment(name)}`, savedQuery, {
				method: 'PUT',
				headers: { 'content-type': 'application/json', ...(isNew && { 'if-none-match': '*' }) },
				// What else the caller's object has is refused.
				body: JSON.stringify({ description, address })
			}),
		removeSavedQuery: (name: string) => change(`saved-queries/${segment(name)}`, () => null, { method: 'DELETE' }),
		queryCheck: (q: string) => names('query/check', { q }, queryCheck),
		trace: (traceId: string) =>
			question(`traces/${segment(traceId)}?targets=true&limit=${SPANS_MAX}`, (given) => compactTrace(given, traceId)),
		/** A stored span never changes. */
		span: (traceId: string, spanId: string) =>
			question(`traces/${segment(traceId)}/spans/${segment(spanId)}`, spanDetail, Infinity),
		find: (traceId: string, q: string) => names(`traces/${segment(traceId)}/find`, { q }, findAnswer),
		status: () => question('status', statusAnswer)
	};
}
