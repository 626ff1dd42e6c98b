/** Time series as they are read; see `reading.ts`. */
import { withKeys } from '$lib/keys';
import { seriesShapeValues, seriesUnitValues } from './contract.generated';
import { attributes, covered } from './reading';
import type { Exemplar, MetricsAnswer, Series } from './types';
import { fields, list, nanos, number, numberOrNull, oneOf, text } from './values';

/** No picture has more steps than these; a larger number is no number of steps. */
const STEPS_MAX = 100_000;

function exemplar(given: unknown): Omit<Exemplar, 'key'> {
	const { traceId, spanId, timeUnixNano, value } = fields(given);
	return {
		traceId: text(traceId),
		spanId: text(spanId),
		timeUnixNano: nanos(timeUnixNano),
		value: numberOrNull(value) ?? Number.NaN
	};
}

function series(given: unknown, steps: number): Series {
	const { labels, values, exemplars } = fields(given);
	const known = list(values);
	return {
		labels: attributes(labels),
		values: Array.from({ length: steps }, (_, step) => numberOrNull(known[step])),
		exemplars: withKeys(list(exemplars).map(exemplar), ({ traceId, spanId }) => `${traceId} ${spanId}`)
	};
}

export function metricsAnswer(given: unknown): MetricsAnswer {
	const answer = fields(given);
	const all = list(answer.series);
	const longest = all.reduce<number>((most, one) => Math.max(most, list(fields(one).values).length), 0);
	const told = number(answer.steps, longest);
	const steps = Number.isInteger(told) && told >= 0 && told <= STEPS_MAX ? told : Math.min(longest, STEPS_MAX);
	const stepNanos = number(answer.stepNanos);
	const weighting = fields(answer.weighting);
	return {
		startTimeUnixNano: nanos(answer.startTimeUnixNano),
		// A step of no length has no place on an axis.
		stepNanos: stepNanos > 0 ? stepNanos : 1,
		steps,
		shape: oneOf(answer.shape, seriesShapeValues, 'series'),
		unit: oneOf(answer.unit, seriesUnitValues, 'plain'),
		bucketUnit: oneOf(answer.bucketUnit, seriesUnitValues, 'plain'),
		series: all.map((one) => series(one, steps)),
		weighting: {
			spans: number(weighting.spans),
			spansOfUnknownProbability: number(weighting.spansOfUnknownProbability)
		},
		...covered(given)
	};
}
