/**
 * The contract with the server. What it answers to the demo's traffic, as `crates/api/tests/it/recorded.rs` keeps it in `recorded/`: nothing of it gets lost
 * where it is read, apart from what the interface has no place for. The stand-in server of the browser tests answers in the same form.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startMock } from '../../../mock/server.mjs';
import {
	attributeKeysAnswer,
	attributeValuesAnswer,
	findAnswer,
	operationsAnswer,
	queryCheck,
	savedQueriesAnswer,
	searchAnswer,
	servicesAnswer,
	statusAnswer,
	tailAnswer
} from './reading';
import { metricsAnswer } from './readingMetrics';
import { compactTrace, spanDetail } from './readingTrace';

const files = import.meta.glob<unknown>('/recorded/*.json', { import: 'default', eager: true });
const recorded = (name: string): unknown => structuredClone(files[`/recorded/${name}.json`]);

const READERS: Record<string, (given: unknown) => unknown> = {
	services: servicesAnswer,
	operations: operationsAnswer,
	keys: attributeKeysAnswer,
	values: attributeValuesAnswer,
	search: searchAnswer,
	'search-errors': searchAnswer,
	'search-by': searchAnswer,
	'search-nothing': searchAnswer,
	rate: metricsAnswer,
	quantiles: metricsAnswer,
	histogram: metricsAnswer,
	compare: metricsAnswer,
	check: queryCheck,
	'check-wrong': queryCheck,
	'saved-queries': savedQueriesAnswer,
	status: statusAnswer,
	tail: tailAnswer,
	trace: (given) => compactTrace(given, ''),
	span: spanDetail,
	find: findAnswer
};
/** Fields that the interface has no place for, or adds. */
const LEFT_OUT = new Set(['rendered']);
const ADDED = new Set(['key']);

/** Where two values differ, by the path to it. A key is an attribute's, too. */
function differences(told: unknown, read: unknown, path = ''): string[] {
	if (typeof told !== 'object' || told === null) return Object.is(told, read) ? [] : [`${path}: ${JSON.stringify(told)}, read as ${JSON.stringify(read)}`];
	if (typeof read !== 'object' || read === null) return [`${path} is not read`];
	const [from, to] = [told, read] as Record<string, unknown>[];
	const names = new Set([...Object.keys(from!), ...Object.keys(to!)]);
	return [...names].flatMap((name) => {
		if (LEFT_OUT.has(name) || (ADDED.has(name) && !(name in from!))) return [];
		return differences(from![name], to![name], `${path}/${name}`);
	});
}

describe('what the server answers', () => {
	it('is there, and has a reader', () => {
		const names = Object.keys(files).map((path) => path.replace(/.*\/|\.json$/g, ''));
		expect(names.sort()).toEqual(Object.keys(READERS).sort());
	});

	it.each(Object.keys(READERS))('%s is read as it is told', (name) => {
		expect(differences(recorded(name), READERS[name]!(recorded(name)))).toEqual([]);
	});

	it('is of a house where something happens', () => {
		expect(searchAnswer(recorded('search')).traces).toHaveLength(20);
		expect(searchAnswer(recorded('search-errors')).traces.some(({ errorCount }) => errorCount > 0)).toBe(true);
		expect(metricsAnswer(recorded('rate')).series.length).toBeGreaterThan(3);
		expect(metricsAnswer(recorded('rate')).series.some(({ exemplars }) => exemplars.length > 0)).toBe(true);
		expect(spanDetail(recorded('span')).events.length).toBeGreaterThan(0);
	});
});

describe('the stand-in server', () => {
	let mock: Awaited<ReturnType<typeof startMock>>;
	beforeAll(async () => void (mock = await startMock()));
	afterAll(() => void mock.server.close());
	const ask = async (path: string): Promise<unknown> => (await fetch(`${mock.url}/api/v1/${path}`)).json();
	const range = () => `start=${new Date(Date.now() - 3_600_000).toISOString()}&end=${new Date().toISOString()}`;
	const query = (q: string) => `q=${encodeURIComponent(q)}`;
	interface Made {
		traceId: string;
		spans: { id: string; exception: unknown }[];
	}
	const failed = () => (mock.traces as Made[]).find(({ spans }) => spans.length < 500 && spans.some(({ exception }) => exception))!;

	it.each<[string, () => string]>([
		['services', () => 'services'],
		['operations', () => 'operations'],
		['keys', () => 'attributes/keys'],
		['values', () => 'attributes/values?scope=span&key=http.route'],
		['search', () => 'search?limit=20&targets=true'],
		['search-by', () => `search?targets=true&${query('{ status = error } | by(name)')}`],
		['rate', () => `metrics?${range()}&${query('{ } | rate() by (resource.service.name)')}`],
		['quantiles', () => `metrics?${range()}&${query('{ } | quantile_over_time(duration, .5, .9)')}`],
		['histogram', () => `metrics?${range()}&${query('{ } | histogram_over_time(duration)')}`],
		['compare', () => `metrics?${range()}&instant=true&${query('{ } | compare({ status = error })')}`],
		['check', () => `query/check?${query('{ }')}`],
		['check-wrong', () => `query/check?${query('{ durations > 1s }')}`],
		['status', () => 'status'],
		['trace', () => `traces/${failed().traceId}?targets=true`],
		['span', () => `traces/${failed().traceId}/spans/${failed().spans.find(({ exception }) => exception)!.id}`],
		['find', () => `traces/${failed().traceId}/find?q=a`]
	])('answers %s as the server does', async (name, path) => {
		const told = await ask(path());
		expect(differences(structuredClone(told), READERS[name]!(told))).toEqual([]);
	});
});
