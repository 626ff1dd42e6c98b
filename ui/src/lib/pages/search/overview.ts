/** All that match a search, counted. */
import type { Picked } from '$lib/address/pages';
import type { Attribute, MetricsAnswer } from '$lib/api/types';
import { nanosUpTo, type Heatmap } from '$lib/metrics/heatmap';
import { labelValue } from '$lib/metrics/series';
import { shownService } from '$lib/traceql/edit';

/** Matches over time, those that failed above the others. */
export function layersOf({ series, steps }: Pick<MetricsAnswer, 'series' | 'steps'>) {
	const [failed, others] = [new Float64Array(steps), new Float64Array(steps)];
	for (const { labels, values } of series) {
		const counts = labels.some((label) => label.key === 'status' && labelValue(label) === 'error') ? failed : others;
		values.forEach((value, step) => step < steps && (counts[step]! += value ?? 0));
	}
	const sum = (counts: Float64Array) => Math.round(counts.reduce((all, count) => all + count, 0));
	return {
		steps,
		layers: [
			{ name: 'not failed', colour: '--accent-fill', counts: others },
			{ name: 'failed', colour: '--error-fill', counts: failed }
		],
		failed: sum(failed),
		total: sum(failed) + sum(others)
	};
}

/** By what matches are counted if nothing else is said. */
export const BY_SERVICE = 'resource.service.name';
/** What can be chosen first, as TraceQL writes it and as a person reads it. */
export const FIELDS = { [BY_SERVICE]: 'service', name: 'operation', status: 'status', kind: 'kind' };

export interface Counted {
	/** As it is shown; never empty. */
	name: string;
	value: Attribute;
	count: number;
}

/** The value of a field in each series with what is counted of it in all steps, most first; one in several tenants is one. */
export function countsBy(field: string, { series }: Pick<MetricsAnswer, 'series'>): Counted[] {
	const counts = new Map<string, Counted>();
	for (const { labels, values } of series) {
		const value = labels[0] ?? { key: field, type: 'empty', value: null };
		const isEmpty = value.type === 'empty' || value.value === null;
		const text = isEmpty ? '' : labelValue(value);
		const name = field === BY_SERVICE ? shownService(text) : isEmpty ? '(none)' : text || '(empty)';
		// What looks the same may be of another type; services are found by what is shown.
		const key = field === BY_SERVICE ? name : `${value.type} ${text}`;
		const counted = counts.get(key) ?? { name, value, count: 0 };
		counts.set(key, counted);
		counted.count += values.reduce<number>((sum, each) => sum + (each ?? 0), 0);
	}
	return [...counts.values()].sort((a, b) => b.count - a.count || (a.name < b.name ? -1 : 1));
}

/** The part of the heatmap in rows, of which the bounds are given in seconds. */
export function pickedOf({ lows, bounds }: Rows, fromMillis: number, toMillis: number, lowest: number, highest: number): Picked {
	return {
		from: Math.floor(fromMillis),
		to: Math.ceil(toMillis),
		min: lows[lowest] === 0 ? 0 : nanosUpTo(lows[lowest]!) + 1,
		max: nanosUpTo(bounds[highest]!)
	};
}

/** The rows that hold a part; none if `lowest` is above `highest`. */
export function rowsOf({ lows, bounds }: Rows, { min, max }: Picked): { lowest: number; highest: number } {
	const lowest = bounds.findIndex((bound) => nanosUpTo(bound) >= min);
	return {
		lowest: lowest === -1 ? bounds.length : lowest,
		highest: bounds.findLastIndex((bound, row) => bound === 0 || lows[row] === 0 || nanosUpTo(lows[row]!) < max)
	};
}

type Rows = Pick<Heatmap, 'lows' | 'bounds'>;
