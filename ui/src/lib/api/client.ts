import type {
	AttributeKeysAnswer,
	AttributeValuesAnswer,
	CompactTrace,
	FindAnswer,
	MetricsAnswer,
	OperationsAnswer,
	Problem,
	QueryCheck,
	SearchAnswer,
	ServicesAnswer,
	SpanDetail,
	StatusAnswer
} from './types';

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
	const fallback = { title: response.statusText || 'The request failed', status: response.status };
	try {
		const body = (await response.json()) as Partial<Problem>;
		return { ...fallback, ...body, title: body.title ?? fallback.title };
	} catch {
		return fallback;
	}
}

async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
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
	return (await response.json()) as T;
}

function withQuery(path: string, query: Record<string, string | undefined>): string {
	const params = new URLSearchParams();
	for (const [key, value] of Object.entries(query)) if (value) params.set(key, value);
	const text = params.toString();
	return text ? `${path}?${text}` : path;
}

/** JSON has no infinity, so it comes as a text, which reads as the number. */
function withNumbers(answer: MetricsAnswer): MetricsAnswer {
	for (const series of answer.series) {
		series.values = series.values.map((value) => (value === null ? null : Number(value)));
		for (const exemplar of series.exemplars) exemplar.value = Number(exemplar.value);
	}
	return answer;
}

/** Among which spans names are looked for: those that a query selects, which may be unfinished. */
type Among = { q?: string };

export const api = {
	services: (among: Among = {}, signal?: AbortSignal) => get<ServicesAnswer>(withQuery('services', among), signal),
	operations: (service: string, among: Among = {}, signal?: AbortSignal) =>
		get<OperationsAnswer>(withQuery('operations', { service, ...among }), signal),
	attributeKeys: (among: Among = {}, signal?: AbortSignal) =>
		get<AttributeKeysAnswer>(withQuery('attributes/keys', among), signal),
	attributeValues: (scope: string, key: string, limit: number, among: Among = {}, signal?: AbortSignal) =>
		get<AttributeValuesAnswer>(withQuery('attributes/values', { scope, key, limit: String(limit), ...among }), signal),
	search: (params: URLSearchParams, signal?: AbortSignal) => get<SearchAnswer>(`search?${params}`, signal),
	metrics: async (params: URLSearchParams, signal?: AbortSignal) =>
		withNumbers(await get<MetricsAnswer>(`metrics?${params}`, signal)),
	queryCheck: (q: string, signal?: AbortSignal) => get<QueryCheck>(withQuery('query/check', { q }), signal),
	trace: (traceId: string, signal?: AbortSignal) => get<CompactTrace>(`traces/${traceId}`, signal),
	span: (traceId: string, spanId: string, signal?: AbortSignal) =>
		get<SpanDetail>(`traces/${traceId}/spans/${spanId}`, signal),
	find: (traceId: string, q: string, signal?: AbortSignal) =>
		get<FindAnswer>(withQuery(`traces/${traceId}/find`, { q }), signal),
	status: (signal?: AbortSignal) => get<StatusAnswer>('status', signal)
};
