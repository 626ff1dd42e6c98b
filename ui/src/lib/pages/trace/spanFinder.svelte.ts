import { here } from '$lib/address/here';
import type { FindAnswer } from '$lib/api/types';
import { Asking } from '$lib/ask/asking.svelte';
import { findTable, mergeMatches, stepMatch } from './find';
import type { FindRequest, FindResponse } from './find.worker';
import type { TraceModel } from './model';
import FindWorker from './find.worker?worker';

/** The server is asked this long after the last key. */
const SERVER_DELAY_MILLIS = 200;
/** Shorter texts are in nearly every attribute; names and services are enough then. */
const SERVER_QUERY_LENGTH_MIN = 2;

/** Looks for text in a trace: names, services and ids at once in a worker, attributes at the server. */
export class SpanFinder {
	query = $state('');
	/** Nodes that match, from top to bottom. */
	matches = $state.raw<Int32Array>(new Int32Array(0));
	matchSet = $state.raw<Set<number>>(new Set());
	/** Spans whose attributes match, too, but which the server does not name. */
	notNamed = $state(0);
	/** Which match the cursor is on, -1 for none. */
	current = $state(-1);
	/** How long the worker took for the last query. */
	workerMillis = 0;

	#model: TraceModel;
	#worker: Worker;
	#sequence = 0;
	#local: ArrayLike<number> = [];
	#remote: ArrayLike<number> = [];
	/** While it has no answer the worker's matches stand; the attributes are simply not searched. */
	#server = new Asking<FindAnswer>({
		restMillis: SERVER_DELAY_MILLIS,
		onanswer: ({ indices, total }) => {
			this.#remote = indices;
			this.notNamed = Math.max(0, total - indices.length);
			this.#merge();
		}
	});
	#onfirst: () => void;
	#jumpPending = false;

	/** `onfirst` is called once per query, when it has matches. */
	constructor(model: TraceModel, onfirst: () => void) {
		this.#model = model;
		this.#onfirst = onfirst;
		this.#worker = new FindWorker();
		this.#worker.onmessage = (message: MessageEvent<FindResponse>) => this.#found(message.data);
		const { trace } = model;
		const table = findTable(trace.spans.id, trace.names, trace.services, trace.spans.name, trace.spans.service);
		this.#post({ table });
	}

	/** True while the server has still to answer. */
	get asking(): boolean {
		return this.#server.asking;
	}

	#post(request: FindRequest): void {
		this.#worker.postMessage(request);
	}

	look(query: string, jump = true): void {
		this.query = query;
		this.#sequence += 1;
		this.#local = [];
		this.#remote = [];
		this.notNamed = 0;
		this.#jumpPending = jump;
		this.#server.leave();
		const text = query.trim();
		if (text === '') {
			this.#merge();
			return;
		}
		this.#post({ sequence: this.#sequence, query: text });
		if (text.length >= SERVER_QUERY_LENGTH_MIN) this.#server.put(here.api.find(this.#model.trace.traceId, text));
	}

	#found(response: FindResponse): void {
		if (response.sequence !== this.#sequence) return;
		this.#local = response.spans;
		this.workerMillis = response.elapsedMillis;
		this.#merge();
	}

	#merge(): void {
		const { tree } = this.#model;
		const at = this.matches[this.current];
		this.matches = mergeMatches(tree.position, this.#local, this.#remote);
		this.matchSet = new Set(this.matches);
		this.current = at === undefined ? -1 : this.matches.indexOf(at);
		if (this.#jumpPending && this.matches.length > 0) {
			this.#jumpPending = false;
			this.#onfirst();
		}
	}

	/** The next match from a position in the tree; returns its node, -1 when there is none. */
	step(fromPosition: number, direction: 1 | -1): number {
		this.current = stepMatch(this.matches, this.#model.tree.position, fromPosition, direction);
		return this.matches[this.current] ?? -1;
	}

	/** Keeps `k of n` true when the cursor moves by other means. */
	cursorAt(node: number): void {
		this.current = this.matchSet.has(node) ? this.matches.indexOf(node) : -1;
	}

	close(): void {
		this.#worker.terminate();
		this.#server.leave();
	}
}
