/** The queries run in this browser, newest first. */
const STORAGE_KEY = 'tracehouse.queries';
const QUERIES_KEPT_MAX = 20;

/** The list with a query put in front; one that was there moves. Pure, so that it can be tested. */
export function remembered(list: readonly string[], query: string): string[] {
	const text = query.trim();
	if (text === '') return [...list];
	return [text, ...list.filter((item) => item !== text)].slice(0, QUERIES_KEPT_MAX);
}

export function readHistory(): string[] {
	try {
		const stored: unknown = JSON.parse(localStorage.getItem(STORAGE_KEY) ?? '[]');
		const queries = (Array.isArray(stored) ? stored : []).filter((item) => typeof item === 'string');
		return [...new Set(queries)].slice(0, QUERIES_KEPT_MAX);
	} catch {
		return [];
	}
}

export function writeHistory(list: readonly string[]): void {
	try {
		localStorage.setItem(STORAGE_KEY, JSON.stringify(list));
	} catch {
		// Without storage the history lasts as long as the page.
	}
}
