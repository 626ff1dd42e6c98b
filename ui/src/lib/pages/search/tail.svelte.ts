/** What a live tail has met. */
import type { TailAnswer, TraceSummary } from '$lib/api/types';

/** The newest of those that came stay. */
export const KEPT_MAX = 500;
/** Over so long a rate is told, once it was looked for so long. */
const RATE_MILLIS = 10_000;
const RATE_AFTER_MILLIS = 3_000;

/** Puts traces that came, the last first, before those of a list; one that is there already, with more spans now, stays where it is. */
export function merge(list: TraceSummary[], came: TraceSummary[]): TraceSummary[] {
	const again = new Map(came.map((trace) => [trace.key, trace]));
	const kept = list.map((trace) => {
		const now = again.get(trace.key);
		again.delete(trace.key);
		return now ?? trace;
	});
	return [...again.values(), ...kept].slice(0, KEPT_MAX);
}

export class Tail {
	/** The traces that are listed, the last that came first. */
	traces = $state.raw<TraceSummary[]>([]);
	/** Those that came while the list was held. */
	held = $state.raw<TraceSummary[]>([]);
	isPaused = $state(false);
	/** Whoever reads further down is not pushed away. */
	isReading = $state(false);
	/** Traces of which a first matching span came, and how many were listed. */
	matched = $state(0);
	listed = $state(0);
	spans = $state(0);
	/** Matching traces a second, lately; null until that can be told. */
	rate = $state<number | null>(null);
	/** From when on that counts. */
	sinceMillis = $state<number | null>(null);
	/** From where to go on. */
	position: string | null = null;
	#looks: { atMillis: number; matched: number }[] = [];
	/** How many traces may be listed, and when that was reckoned: what is left of a second is not lost, for many come in one batch. */
	#allowance = { traces: Infinity, atMillis: 0 };

	readonly isHeld = $derived(this.isPaused || this.isReading);

	begin(): void {
		this.position = null;
		this.clear(null);
	}

	/** Begins the list and its figures anew. */
	clear(nowMillis: number | null): void {
		[this.traces, this.held] = [[], []];
		[this.matched, this.listed, this.spans, this.rate, this.sinceMillis] = [0, 0, 0, null, nowMillis];
		this.#looks = nowMillis === null ? [] : [{ atMillis: nowMillis, matched: 0 }];
	}

	/** How many traces may come with the next look, of so many in a second. */
	limitOf(rate: number, nowMillis: number): number {
		const { traces, atMillis } = this.#allowance;
		this.#allowance = { traces: Math.min(rate, traces + ((nowMillis - atMillis) / 1000) * rate), atMillis: nowMillis };
		return Math.max(1, Math.round(this.#allowance.traces));
	}

	take({ position, traces, tracesBegun, spansArrived }: TailAnswer, nowMillis: number): void {
		this.position = position;
		this.sinceMillis ??= nowMillis;
		this.matched += tracesBegun;
		this.spans += spansArrived;
		this.#allowance.traces -= traces.length;
		this.#measure(tracesBegun, nowMillis);
		if (traces.length === 0) return;
		if (this.isHeld) this.held = merge(this.held, traces);
		else this.#list(traces);
	}

	/** Lists what was held. */
	release(): void {
		if (this.held.length > 0) this.#list(this.held);
		this.held = [];
	}

	#list(came: TraceSummary[]): void {
		const known = new Set(this.traces.map(({ key }) => key));
		this.listed += came.filter(({ key }) => !known.has(key)).length;
		this.traces = merge(this.traces, came);
	}

	#measure(matched: number, atMillis: number): void {
		this.#looks = [...this.#looks.filter((look) => atMillis - look.atMillis <= RATE_MILLIS), { atMillis, matched }];
		const [first, ...later] = this.#looks;
		const millis = atMillis - first!.atMillis;
		this.rate = millis < RATE_AFTER_MILLIS ? null : (later.reduce((sum, look) => sum + look.matched, 0) / millis) * 1000;
	}
}
