import type { Asking } from '$lib/ask/asking.svelte';

/** A question as a panel sees it, whatever is answered to it. */
export type Asked = Pick<Asking<unknown>, 'answer' | 'asking' | 'error' | 'isEmpty' | 'state'>;

/** What a panel shows of a question, in each of its states. */
export interface PanelView {
	/** What went wrong, above whatever else is shown. */
	failure: boolean;
	body: 'content' | 'empty' | 'nothing';
	/** The content is that of an earlier question. Beside an error it stays as it is: it may be read for long. */
	isOld: boolean;
}

/** Content is shown while it is awaited, too: it says itself how it looks before there is an answer. */
export function viewOf({ answer, error, state, isEmpty }: Omit<Asked, 'asking'>): PanelView {
	const failure = error !== null;
	const isBare = answer === null || isEmpty;
	return { failure, body: failure && isBare ? 'nothing' : isEmpty ? 'empty' : 'content', isOld: state === 'stale' };
}
