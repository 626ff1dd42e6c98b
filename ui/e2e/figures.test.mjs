/** Figures on the screen are those of the API, series by series and cell by cell: run against a real server they are real ones. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { findTracePath, openPage, startSession } from './session.mjs';

let session;
before(async () => (session = await startSession()));
after(() => session.stop());

const api = async (path, parameters) => (await fetch(`${session.url}/api/v1/${path}?${new URLSearchParams(parameters)}`)).json();
/** The last day up to now, with ends that stay where they are. */
const END = new Date(Math.floor(Date.now() / 60_000) * 60_000).toISOString();
const START = new Date(Date.parse(END) - 86_400_000).toISOString();
const RANGE = { start: START, end: END };
const query = (text, more = {}) => `/query?${new URLSearchParams({ q: text, ...RANGE, ...more })}`;
const number = (text) => Number(text.replaceAll(',', ''));

/** A table as it is shown: the heads, and the cells of each row. */
const cells = (table) =>
	table.evaluate((shown) => ({
		heads: [...shown.querySelectorAll('thead th')].map((cell) => cell.textContent.trim()),
		rows: [...shown.querySelectorAll('tbody tr')].map((row) => [...row.children].map((cell) => cell.textContent.trim()))
	}));

const SECONDS = { ns: 1e-9, µs: 1e-6, ms: 1e-3, s: 1, m: 60, h: 3_600 };

const labelOf = ({ labels }) => labels.map(({ value }) => String(value)).join();

test('a chart of series read as a table has every value of the answer', async () => {
	const text = '{ } | count_over_time() by (resource.service.name)';
	const page = await openPage(session, query(text, { step: '1h' }));
	const answer = await api('metrics', { q: text, ...RANGE, step: '1h' });
	assert.ok(answer.series.length > 1 && answer.steps >= 24);
	await page.getByRole('button', { name: 'As table' }).first().click();
	const { heads, rows } = await cells(page.getByRole('table', { name: /as a table$/ }));
	assert.equal(rows.length, answer.steps);
	for (const series of answer.series) {
		const column = heads.indexOf(labelOf(series));
		assert.ok(column > 0, `${labelOf(series)} is one of ${heads}`);
		assert.deepEqual(rows.map((row) => number(row[column])), series.values.map((value) => value ?? NaN), labelOf(series));
	}
	const times = rows.map(([time]) => Date.parse(time));
	assert.deepEqual(times, answer.series[0].values.map((_, step) => Number(BigInt(answer.startTimeUnixNano) / 1_000_000n) + (step * answer.stepNanos) / 1e6));
	await page.done();
});

test('the values of one step are those of the answer', async () => {
	const text = '{ } | quantile_over_time(duration, .5, .99) by (resource.service.name)';
	const page = await openPage(session, query(text, { step: 'all' }));
	const answer = await api('metrics', { q: text, ...RANGE, instant: 'true' });
	const table = page.getByRole('table', { name: 'Series over the whole time range' });
	await table.waitFor();
	const { rows } = await cells(table);
	assert.equal(rows.length, answer.series.length);
	for (const series of answer.series) {
		const [service, quantile] = ['resource.service.name', 'p'].map((key) => String(series.labels.find((label) => label.key === key).value));
		const row = rows.find(([name]) => name === `${service} · p${quantile * 100}`);
		assert.ok(row, `${service} ${quantile}`);
		const seconds = [...row[1].matchAll(/([\d.,]+)\s*(ns|µs|ms|s|m|h)/g)].reduce((sum, [, amount, unit]) => sum + number(amount) * SECONDS[unit], 0);
		assert.ok(Math.abs(seconds - series.values[0]) <= Math.abs(series.values[0]) * 0.006, `${row} for ${series.values[0]} s`);
	}
	await page.done();
});

test('the pictures of a search count what matches', async () => {
	const page = await openPage(session, `/?${new URLSearchParams({ status: 'error', limit: '20', ...RANGE })}`);
	const q = '{ status = error }';
	const [counts, durations, services, traces] = await Promise.all([
		api('metrics', { q: `${q} | count_over_time() by (status)`, ...RANGE }),
		api('metrics', { q: `${q} | histogram_over_time(duration)`, ...RANGE, buckets: 4 }),
		api('metrics', { q: `${q} | count_over_time() by (resource.service.name)`, ...RANGE, instant: 'true' }),
		api('search/count', { status: 'error', ...RANGE })
	]);
	const total = ({ series }) => series.flatMap(({ values }) => values).reduce((sum, value) => sum + (value ?? 0), 0);
	assert.ok(total(counts) > 0);
	await page.getByRole('region', { name: 'Matching spans' }).getByText(new RegExp(`^${total(counts).toLocaleString('en')}, ${total(counts).toLocaleString('en')} failed$`)).waitFor();
	await page.getByRole('img', { name: new RegExp(`^Heatmap of the durations of ${total(durations).toLocaleString('en')} spans?`) }).waitFor();
	const heat = page.getByRole('region', { name: 'Durations' });
	await heat.getByRole('button', { name: 'As table' }).click();
	const { rows } = await cells(heat.getByRole('table'));
	assert.equal(rows.length, durations.steps);
	const perStep = Array.from({ length: durations.steps }, (_, step) => durations.series.reduce((sum, { values }) => sum + (values[step] ?? 0), 0));
	assert.deepEqual(rows.map(([, ...buckets]) => buckets.reduce((sum, bucket) => sum + number(bucket), 0)), perStep);
	const listed = await page.getByRole('list', { name: 'Matching spans by service' }).getByRole('button').allInnerTexts();
	const expected = services.series.map((series) => [labelOf(series), series.values[0]]).sort((one, other) => other[1] - one[1]).slice(0, 8);
	assert.deepEqual(listed.map((text) => number(/([\d,]+)$/.exec(text.trim())[1])).sort((a, b) => b - a), expected.map(([, count]) => count));
	if (traces.traces > 20) await page.getByText(new RegExp(`^Newest 20 of ${traces.traces.toLocaleString('en')} traces`)).waitFor();
	await page.done();
});

test('a span is titled with what it is about, and all spans over time are counted', async () => {
	const q = '{ kind = client }';
	const page = await openPage(session, query(q, { tab: 'spans', limit: 20 }));
	const { traces } = await api('search', { q, ...RANGE, limit: 20, spans: 20, targets: true });
	const spans = traces.flatMap(({ spansets }) => spansets).flatMap((set) => set.spans);
	const titles = spans.map(({ name, target, serviceName }) => [serviceName, name, target].filter(Boolean).join(' '));
	assert.ok(spans.some(({ target }) => target));
	const links = page.getByRole('table', { name: 'Matching spans' }).locator('tbody a');
	await links.first().waitFor();
	const shown = await links.evaluateAll((all) => all.map((link) => link.textContent.trim().replaceAll(/\s+/g, ' ')));
	assert.deepEqual(shown.sort(), titles.sort());

	await page.getByRole('button', { name: 'Over time' }).click();
	const rates = await api('metrics', { q: `${q} | rate() by (resource.service.name)`, ...RANGE });
	const legend = page.locator('main').getByRole('table').first();
	await legend.locator('tbody th').first().waitFor();
	assert.deepEqual((await legend.locator('tbody th').allInnerTexts()).map((text) => text.trim()).sort(), rates.series.map(labelOf).sort());
	await page.getByRole('button', { name: /^Traces/ }).click();
	await page.getByRole('table', { name: 'Traces found' }).getByRole('link').first().waitFor();
	await page.done();
});

test('a trace shows as many spans, as long and as failed, as it has', async () => {
	const { path, trace } = await findTracePath(session, '&status=error');
	const page = await openPage(session, path);
	const answer = await api(path.slice(1).replace('trace/', 'traces/'), {});
	const rows = page.locator('[role="treegrid"] [role="row"][aria-level]');
	await rows.first().waitFor();
	await page.keyboard.press('*');
	assert.equal(Number(await page.getByRole('treegrid').getAttribute('aria-rowcount')), answer.spanCount + 1);
	assert.equal(trace.spanCount, answer.spanCount);
	const shown = await rows.evaluateAll((all) => all.map((row) => row.textContent));
	for (const [index, name] of answer.spans.name.slice(0, Math.min(20, shown.length)).entries()) {
		assert.ok(shown[index].includes(answer.names[name]), `${shown[index]}: ${answer.names[name]}`);
	}
	assert.match(await page.getByRole('main').innerText(), new RegExp(`Spans\\s+${answer.spanCount}\\s+Errors\\s+${answer.errorCount}\\s`));
	await page.done();
});
