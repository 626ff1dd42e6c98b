/// <reference lib="webworker" />
import { findSpans, type FindTable } from './find';

/** First a table, then any number of queries; each answer carries the number of its query. */
export type FindRequest = { table: FindTable } | { sequence: number; query: string };
export interface FindResponse {
	sequence: number;
	spans: Int32Array;
	elapsedMillis: number;
}

let table: FindTable | null = null;

self.onmessage = (message: MessageEvent<FindRequest>) => {
	const request = message.data;
	if ('table' in request) {
		table = request.table;
		return;
	}
	const begun = performance.now();
	const spans = table ? findSpans(table, request.query) : new Int32Array(0);
	const response: FindResponse = {
		sequence: request.sequence,
		spans,
		elapsedMillis: performance.now() - begun
	};
	self.postMessage(response, { transfer: [spans.buffer] });
};
