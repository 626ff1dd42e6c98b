/** What a live tail has met. */
import type { TailAnswer, TraceSummary } from '$lib/api/types';

/** The newest of those that came stay. */
export const KEPT_MAX = 500;
/** Over so long a rate is told. */
const RATE_MILLIS = 5_000;

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
	/** Traces that matched, counted at each look, and those of them that were listed. */
	matched = $state(0);
	listed = $state(0);
	spans = $state(0);
	/** Matching traces a second, lately. */
	rate = $state(0);
	sinceMillis = $state<number | null>(null);
	/** From where to go on. */
	position: string | null = null;
	#looks: { atMillis: number; matched: number }[] = [];

	readonly isHeld = $derived(this.isPaused || this.isReading);

	begin(): void {
		this.position = null;
		this.sinceMillis = null;
		this.clear();
	}

	clear(): void {
		[this.traces, this.held] = [[], []];
		[this.matched, this.listed, this.spans, this.rate] = [0, 0, 0, 0];
		this.#looks = [];
	}

	take({ position, traces, tracesMatched, spansArrived }: TailAnswer, nowMillis: number): void {
		this.position = position;
		this.sinceMillis ??= nowMillis;
		this.matched += tracesMatched;
		this.listed += traces.length;
		this.spans += spansArrived;
		this.#measure(tracesMatched, nowMillis);
		if (traces.length === 0) return;
		if (this.isHeld) this.held = merge(this.held, traces);
		else this.traces = merge(this.traces, traces);
	}

	/** Lists what was held. */
	release(): void {
		if (this.held.length > 0) this.traces = merge(this.traces, this.held);
		this.held = [];
	}

	#measure(matched: number, atMillis: number): void {
		this.#looks = [...this.#looks.filter((look) => atMillis - look.atMillis <= RATE_MILLIS), { atMillis, matched }];
		const [first, ...later] = this.#looks;
		const seconds = (atMillis - first!.atMillis) / 1000;
		this.rate = seconds > 0 ? later.reduce((sum, look) => sum + look.matched, 0) / seconds : 0;
	}
}
