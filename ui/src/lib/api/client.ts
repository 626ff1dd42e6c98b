import {
	attributeKeysAnswer,
	attributeValuesAnswer,
	findAnswer,
	operationsAnswer,
	queryCheck,
	searchAnswer,
	servicesAnswer,
	statusAnswer
} from './reading';
import { metricsAnswer } from './readingMetrics';
import { compactTrace, spanDetail } from './readingTrace';
import type { Problem } from './types';
import { fields, text } from './values';

/** A refused or failed request, in words a person can act on. */
export class ApiError extends Error {
	/** The HTTP status; 0 when the server could not be reached. */
	readonly status: number;
	readonly title: string;
	readonly detail: string;

	constructor(problem: Problem) {
		super(problem.detail || problem.title);
		this.name = 'ApiError';
		this.status = problem.status;
		this.title = problem.title;
		this.detail = problem.detail ?? '';
	}
}

export function isAbort(error: unknown): boolean {
	return error instanceof DOMException && error.name === 'AbortError';
}

/** Whatever was thrown, as an ApiError. */
export function asApiError(error: unknown): ApiError {
	if (error instanceof ApiError) return error;
	const detail = error instanceof Error ? error.message : String(error);
	return new ApiError({ title: 'Something went wrong in this page', status: 0, detail });
}

async function problemOf(response: Response): Promise<Problem> {
	const { status } = response;
	const said = fields(await response.json().catch(() => null));
	return { title: text(said.title) || response.statusText || 'The request failed', status, detail: text(said.detail) };
}

/** What the server answers, read by `read`; the answers' one way in. */
async function get<T>(path: string, read: (given: unknown) => T, signal?: AbortSignal): Promise<T> {
	let response: Response;
	try {
		response = await fetch(`/api/v1/${path}`, { signal, headers: { accept: 'application/json' } });
	} catch (error) {
		if (isAbort(error)) throw error;
		throw new ApiError({
			title: 'The server cannot be reached',
			status: 0,
			detail: 'No answer came from Tracehouse. Check that it is running and that the network lets you through.'
		});
	}
	if (!response.ok) throw new ApiError(await problemOf(response));
	const given = await bodyOf(response);
	if (typeof given !== 'object' || given === null || Array.isArray(given)) throw unreadable(response.status);
	return read(given);
}

async function bodyOf(response: Response): Promise<unknown> {
	try {
		return await response.json();
	} catch (error) {
		if (isAbort(error)) throw error;
		throw unreadable(response.status);
	}
}

function unreadable(status: number): ApiError {
	const detail = 'What came is no answer of Tracehouse. Check what stands between it and this page, such as a proxy.';
	return new ApiError({ title: 'The answer cannot be read', status, detail });
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

export const api = {
	services: (among: Among = {}, signal?: AbortSignal) => get(withQuery('services', among), servicesAnswer, signal),
	operations: (service: string, among: Among = {}, signal?: AbortSignal) =>
		get(withQuery('operations', { service, ...among }), operationsAnswer, signal),
	attributeKeys: (among: Among = {}, signal?: AbortSignal) =>
		get(withQuery('attributes/keys', among), attributeKeysAnswer, signal),
	attributeValues: (scope: string, key: string, limit: number, among: Among = {}, signal?: AbortSignal) =>
		get(withQuery('attributes/values', { scope, key, limit: String(limit), ...among }), attributeValuesAnswer, signal),
	search: (params: URLSearchParams, signal?: AbortSignal) => get(`search?${params}`, searchAnswer, signal),
	metrics: (params: URLSearchParams, signal?: AbortSignal) => get(`metrics?${params}`, metricsAnswer, signal),
	queryCheck: (q: string, signal?: AbortSignal) => get(withQuery('query/check', { q }), queryCheck, signal),
	trace: (traceId: string, signal?: AbortSignal) =>
		get(`traces/${segment(traceId)}`, (given) => compactTrace(given, traceId), signal),
	span: (traceId: string, spanId: string, signal?: AbortSignal) =>
		get(`traces/${segment(traceId)}/spans/${segment(spanId)}`, spanDetail, signal),
	find: (traceId: string, q: string, signal?: AbortSignal) =>
		get(withQuery(`traces/${segment(traceId)}/find`, { q }), findAnswer, signal),
	status: (signal?: AbortSignal) => get('status', statusAnswer, signal)
};
