import { api } from './client';
import type { SpanDetail } from './types';

const SPANS_KEPT_MAX = 64;

/** The spans of one trace in full, the last few kept; a stored span never changes. */
export class SpanCache {
	#traceId: string;
	#details = new Map<string, SpanDetail>();

	constructor(traceId: string) {
		this.#traceId = traceId;
	}

	kept(spanId: string): SpanDetail | undefined {
		return this.#details.get(spanId);
	}

	async get(spanId: string, signal: AbortSignal): Promise<SpanDetail> {
		const kept = this.#details.get(spanId);
		if (kept) return kept;
		const detail = await api.span(this.#traceId, spanId, signal);
		this.#details.set(spanId, detail);
		const oldest = this.#details.keys().next().value;
		if (this.#details.size > SPANS_KEPT_MAX && oldest !== undefined) this.#details.delete(oldest);
		return detail;
	}
}
