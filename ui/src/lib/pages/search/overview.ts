/** All that match a search, counted. */
import type { MetricsAnswer } from '$lib/api/types';
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

/** The service of each series with what is counted of it in all steps, most first; one in several tenants is one. */
export function countsByService({ series }: Pick<MetricsAnswer, 'series'>): { name: string; count: number }[] {
	const counts = new Map<string, number>();
	for (const { labels, values } of series) {
		const label = labels[0];
		const name = shownService(label && label.type !== 'empty' ? labelValue(label) : '');
		const count = values.reduce<number>((sum, value) => sum + (value ?? 0), 0);
		counts.set(name, (counts.get(name) ?? 0) + count);
	}
	return [...counts].map(([name, count]) => ({ name, count })).sort((a, b) => b.count - a.count || (a.name < b.name ? -1 : 1));
}
