import type { ApiError } from '$lib/api/client';

/** One question to the server; `api` makes them. */
export interface Question<T> {
	/** Tenant, resolved range and parameters: two questions with one key have one answer. */
	readonly key: string;
	ask(signal: AbortSignal): Promise<T>;
	/** The answer, if there is one that still holds. */
	kept(): T | undefined;
}

/** The same question, its answer seen otherwise. */
export function mapped<T, U>({ key, ask, kept }: Question<T>, see: (answer: T) => U): Question<U> {
	return {
		key,
		ask: async (signal) => see(await ask(signal)),
		kept: () => {
			const answer = kept();
			return answer === undefined ? undefined : see(answer);
		}
	};
}

const underWay = new Map<string, Promise<unknown>>();

/** For who takes a promise, as the editor does: what is asked for twice at a time is asked once. */
export function once<T>({ key, ask, kept }: Question<T>): Promise<T> {
	const answer = kept();
	if (answer !== undefined) return Promise.resolve(answer);
	const awaited = underWay.get(key) ?? ask(new AbortController().signal).finally(() => underWay.delete(key));
	underWay.set(key, awaited);
	return awaited as Promise<T>;
}

const RETRY_FIRST_MILLIS = 1_000;
const RETRY_MAX_MILLIS = 16_000;
const RETRY_AFTER_MAX_MILLIS = 60_000;

/**
 * How long a failed question rests before it is asked again: twice as long each time, or as long as the server wants; neither
 * without end. `chance` (0 to 1) spreads those who failed together.
 */
export function retryMillis(failures: number, { retryAfterMillis }: Pick<ApiError, 'retryAfterMillis'>, chance: number): number {
	const rest =
		retryAfterMillis === null
			? Math.min(RETRY_MAX_MILLIS, RETRY_FIRST_MILLIS * 2 ** (failures - 1))
			: Math.min(RETRY_AFTER_MAX_MILLIS, retryAfterMillis);
	return rest * (1 + chance / 4);
}
