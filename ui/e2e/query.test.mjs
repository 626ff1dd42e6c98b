/**
 * The query page: it completes, checks, runs and draws, and keeps everything in the address. What a server answers to
 * metrics is made up here, so that these tests hold against any server.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { openPage, startSession, waitForAddress } from './session.mjs';
import { meaningOf } from '../mock/metrics.mjs';

const axeSource = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
let session;
before(async () => (session = await startSession()));
after(() => session.stop());

const STEPS = 60;
const TRACE = '5b8efff798038103d269b633813fc60c';
const SPAN = 'eee19b7ec3c1b174';
const href = (q, more = '') => `/query?q=${encodeURIComponent(q)}${more}`;
const start = () => Math.floor(Date.now() / 60_000 - STEPS) * 60_000;

function answerOf(series, more = {}) {
	return {
		startTimeUnixNano: `${start()}000000`,
		stepNanos: 60e9,
		steps: STEPS,
		series,
		complete: true,
		partialReason: null,
		weighting: { spans: 5000, spansOfUnknownProbability: 5000 },
		inspected: { spans: 5000, files: 2, filesTotal: 2, bytes: 1000 },
		elapsedNanos: 3e6,
		...more
	};
}

const text = (key, value) => ({ key, type: 'string', value });
const line = (name, scale, exemplars = []) => ({
	labels: [text('name', name)],
	values: Array.from({ length: STEPS }, (_, step) => (step % 13 === 5 ? null : scale * (1 + Math.sin(step / 5)))),
	exemplars
});

/** Answers `/api/v1/metrics` with this, after the given time; counts how often it was asked. */
async function mockMetrics(page, answer, delayMillis = 0) {
	const asked = [];
	await page.route('**/api/v1/metrics?*', async (route) => {
		const params = new URL(route.request().url()).searchParams;
		asked.push(params);
		if (delayMillis > 0) await new Promise((resolve) => setTimeout(resolve, delayMillis));
		const { status = 200, ...body } = typeof answer === 'function' ? answer(asked.length) : answer;
		const contentType = status === 200 ? 'application/json' : 'application/problem+json';
		await route
			.fulfill({ status, contentType, body: JSON.stringify(status === 200 ? { ...meaningOf(params.get('q')), ...body } : { status, ...body }) })
			.catch(() => undefined);
	});
	return asked;
}

/** Checks queries as a server would: only `durations` is wrong. */
async function mockCheck(page) {
	await page.route('**/api/v1/query/check?*', async (route) => {
		const q = new URL(route.request().url()).searchParams.get('q') ?? '';
		const at = q.indexOf('durations');
		const error = {
			message: 'unknown word `durations`',
			start: at,
			end: at + 9,
			expected: [],
			suggestion: 'did you mean `duration`?'
		};
		const body =
			at === -1 ? { valid: true, kind: 'spans', printed: '{ span:status = error }' } : { valid: false, error };
		await route.fulfill({ contentType: 'application/json', body: JSON.stringify(body) });
	});
}

async function openQuery(path, answer, options = {}) {
	const page = await openPage(session, '/query', options);
	await mockCheck(page);
	const asked = answer === undefined ? [] : await mockMetrics(page, answer, options.delayMillis);
	if (path !== '/query') await page.goto(session.url + path);
	await page.locator('.cm-content').waitFor();
	return { page, asked };
}

const editor = (page) => page.getByRole('textbox', { name: 'TraceQL query' });
const seriesRows = (page) =>
	page
		.getByRole('table', { name: /^Series/ })
		.locator('tbody')
		.getByRole('row');

async function violations(page) {
	await page.evaluate(axeSource);
	const { violations: found } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
	return found.map(
		({ id, help, nodes }) =>
			`${id}: ${help}\n${nodes.map((node) => `   ${node.html}\n   ${node.failureSummary}`).join('\n')}`
	);
}

test('the editor is there at once, and what is typed early is kept', async () => {
	const page = await openPage(session, '/');
	let letGo;
	const held = new Promise((resolve) => (letGo = resolve));
	await page.route('**/_app/immutable/chunks/editor.*', async (route) => {
		await held;
		await route.continue();
	});
	await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Query' }).click();
	await editor(page).fill('{ status = error }');
	letGo();
	await page.locator('.cm-content').waitFor();
	assert.equal((await page.locator('.cm-content').innerText()).trim(), '{ status = error }');
	assert.equal(await page.evaluate(() => document.activeElement?.className.includes('cm-content')), true);
	await page.done();
});

test('completes attributes and their values, and leaves with Escape or Tab', async () => {
	const { page } = await openQuery('/query');
	await editor(page).click();
	await page.keyboard.type('{ resource.service.na');
	await page.getByRole('option', { name: 'resource.service.name', exact: true }).waitFor();
	await page.waitForTimeout(100);
	await page.keyboard.press('Enter');
	await page.keyboard.type(' = "');
	const option = page.getByRole('option').first();
	await option.waitFor();
	const value = (await option.innerText()).trim();
	await page.waitForTimeout(100);
	await page.keyboard.press('Enter');
	assert.match(
		await page.locator('.cm-content').innerText(),
		new RegExp(`^\\{ resource\\.service\\.name = "${value}" ?\\}$`)
	);
	await page.keyboard.press('Escape');
	assert.equal(await page.evaluate(() => document.activeElement === document.body), true);
	await editor(page).click();
	await page.keyboard.press('Tab');
	assert.equal(
		await page
			.getByRole('button', { name: 'Run', exact: true })
			.evaluate((button) => button === document.activeElement),
		true
	);
	await page.done();
});

test('marks what is wrong in its place, and formats what is right', async () => {
	const { page } = await openQuery('/query');
	await editor(page).click();
	await page.keyboard.type('{ durations > 2s');
	await page.locator('.cm-lintRange-error', { hasText: 'durations' }).waitFor();
	await page.getByRole('status').filter({ hasText: 'did you mean' }).waitFor();
	await page.keyboard.press('Control+a');
	await page.keyboard.type('{status=error}');
	await page.keyboard.press('Alt+Shift+F');
	await page.locator('.cm-content', { hasText: '{ span:status = error }' }).waitFor();
	await page.done();
});

test('Ctrl+Enter runs; back, forward and reload keep up', async () => {
	const { page } = await openQuery('/query');
	await editor(page).click();
	await page.keyboard.type('{ status = error }');
	await page.keyboard.press('Control+Enter');
	await waitForAddress(page, /\/query\?q=%7B\+status/);
	await page.getByRole('table', { name: 'Traces found' }).getByRole('link').first().waitFor();
	await page.getByRole('button', { name: /^Spans \d/ }).click();
	await waitForAddress(page, /tab=spans/);
	const link = page.getByRole('table', { name: 'Matching spans' }).getByRole('link').first();
	await link.waitFor();
	assert.match(await link.getAttribute('href'), /^\/trace\/[0-9a-f]{32}\?span=[0-9a-f]{16}$/);
	await page.reload();
	await link.waitFor();
	assert.equal((await page.locator('.cm-content').innerText()).trim(), '{ status = error }');
	await page.goBack();
	await page.getByRole('table', { name: 'Traces found' }).waitFor();
	await page.goForward();
	await link.waitFor();
	await page.getByRole('button', { name: 'History' }).click();
	await page.getByRole('button', { name: '{ status = error }', exact: true }).waitFor();
	await page.done();
});

test('what is typed but not run outlives a change of the range', async () => {
	const { page } = await openQuery(href('{ status = error }'));
	await editor(page).click();
	await page.keyboard.press('Control+End');
	await page.keyboard.type(' | count() > 2');
	await page.getByRole('status').filter({ hasText: 'Edited, not run yet' }).waitFor();
	await page.getByRole('button', { name: 'Last 24h' }).click();
	await waitForAddress(page, /range=24h/);
	await page.getByRole('table', { name: 'Traces found' }).getByRole('link').first().waitFor();
	assert.equal((await page.locator('.cm-content').innerText()).trim(), '{ status = error } | count() > 2');
	await page.done();
});

test('draws time series, shows one alone, sorts them, opens an exemplar, zooms', async () => {
	const exemplar = { traceId: TRACE, spanId: SPAN, timeUnixNano: `${start() + 30 * 60_000}000000`, value: 0.012 };
	const lines = [line('GET /cart', 0.01, [exemplar]), line('GET /stock', 0.03), line('POST /checkout', 0.02)];
	const { page, asked } = await openQuery(href('{ } | max_over_time(duration) by (name)', '&step=1m'), answerOf(lines));
	await page.getByRole('img', { name: /^3 time series in 60 steps of 1m/ }).waitFor();
	await page.locator('.u-over').waitFor();
	assert.equal(asked.at(-1).get('step'), '1m');
	assert.equal(asked.at(-1).get('exemplars'), '20');
	assert.match(await seriesRows(page).first().innerText(), /GET \/stock/);
	await page.getByRole('columnheader', { name: 'Series' }).getByRole('button').click();
	assert.match(await seriesRows(page).first().innerText(), /GET \/cart/);
	const alone = page.getByRole('button', { name: 'GET /stock' });
	await alone.click();
	assert.equal(await alone.getAttribute('aria-pressed'), 'true');
	await page.getByText('1 exemplar', { exact: false }).click();
	assert.equal(await page.getByRole('link', { name: /12 ms/ }).getAttribute('href'), `/trace/${TRACE}?span=${SPAN}`);
	const box = await page.locator('.u-over').boundingBox();
	await page.mouse.move(box.x + box.width * 0.25, box.y + 60);
	await page.mouse.down();
	await page.mouse.move(box.x + box.width * 0.5, box.y + 90, { steps: 4 });
	await page.mouse.up();
	await waitForAddress(page, /start=.*&end=/);
	const { searchParams } = new URL(page.url());
	const length = Date.parse(searchParams.get('end')) - Date.parse(searchParams.get('start'));
	assert.ok(length > 10 * 60_000 && length < 20 * 60_000, `zoomed to ${length} ms`);
	await page.done();
});

test('says what is not drawn, not searched, not weighed', async () => {
	const lines = Array.from({ length: 70 }, (_, index) => line(`operation ${index}`, index + 1));
	const more = {
		complete: false,
		partialReason: 'the time limit of 10 s was reached',
		weighting: { spans: 5000, spansOfUnknownProbability: 1200 },
		inspected: { spans: 5000, files: 3, filesTotal: 8, bytes: 1 }
	};
	const { page } = await openQuery(href('{ } | rate() by (name)'), answerOf(lines, more));
	await page.getByText('50 of 70 series drawn').waitFor();
	await page.getByText('60 of 70 series listed').waitFor();
	await page.getByText('Partial: 3 of 8 files searched').waitFor();
	await page.getByText('1,200 of 5,000 spans carried no sampling probability').waitFor();
	await page.done();
});

test('lists the values of one step, and the buckets of a heatmap', async () => {
	const one = answerOf(
		[
			{ ...line('GET', 1), values: [7] },
			{ ...line('POST', 1), values: [21] }
		],
		{ steps: 1, stepNanos: 3600e9 }
	);
	const { page, asked } = await openQuery(href('{ } | count_over_time() by (name)', '&step=all'), one);
	assert.match(await seriesRows(page).first().innerText(), /POST\s+21/);
	assert.equal(asked.at(-1).get('instant'), 'true');
	await page.done();
	const bucket = (value) => ({
		...line('', 4),
		labels: [{ key: '__bucket', type: 'double', value }],
		values: Array(STEPS).fill(2)
	});
	const second = await openQuery(href('{ } | histogram_over_time(duration)'), answerOf([bucket(0.5), bucket(2)]));
	await second.page.getByRole('img', { name: /^Heatmap of 240 spans/ }).waitFor();
	assert.deepEqual(
		await second.page.getByRole('table', { name: 'Spans in each bucket' }).getByRole('rowheader').allInnerTexts(),
		['1.68 s to 2 s', '420 ms to 500 ms']
	);
	await second.page.done();
});

test('compares, and a value narrows the query', async () => {
	const side = (meta, region, count) => ({
		labels: [text('__meta_type', meta), text('resource.cloud.region', region)],
		values: [count],
		exemplars: []
	});
	const answer = answerOf(
		[side('baseline', 'eu', 90), side('baseline', 'us', 10), side('selection', 'us', 9), side('selection', 'eu', 1)],
		{ steps: 1 }
	);
	const { page } = await openQuery(href('{ } | compare({ status = error })'), answer);
	await page.getByRole('heading', { name: 'resource.cloud.region' }).waitFor();
	await page.getByRole('button', { name: /^us/ }).click();
	await waitForAddress(
		page,
		(url) => new URL(url).searchParams.get('q') === '{ resource.cloud.region = "us" } | compare({ status = error })'
	);
	await page.done();
});

test('a query under way can be stopped, and a new one ends it', async () => {
	const { page } = await openQuery(href('{ } | rate()'), answerOf([line('x', 1)]), { delayMillis: 3000 });
	await page.getByRole('button', { name: 'Cancel' }).click();
	await page.getByRole('heading', { name: 'Cancelled' }).waitFor();
	await page.getByRole('button', { name: 'Run', exact: true }).waitFor();
	await page.done();
});

test('a refusal shows the server’s words, and the next answer takes their place', async () => {
	const refusal = {
		status: 400,
		title: 'The query cannot be read',
		detail: 'error: unexpected `)`\n  |\n1 | { } | rate())\n  |             ^'
	};
	const { page } = await openQuery(
		href('{ } | rate())'),
		(count) => (count === 1 ? refusal : answerOf([line('x', 1)])),
		{ expectFailures: true }
	);
	const alert = page.getByRole('alert');
	await alert.waitFor();
	assert.match(await alert.innerText(), /\n1 \| \{ \} \| rate\(\)\)\n/);
	await page.getByRole('button', { name: 'Try again' }).click();
	await alert.waitFor({ state: 'hidden' });
	await seriesRows(page).first().waitFor();
	await page.done();
});

test('examples run, and the search page leads here', async () => {
	const { page } = await openQuery('/query', answerOf([]));
	await page.getByRole('link', { name: /^Errors by service/ }).click();
	await waitForAddress(page, /q=.*rate/);
	await page.getByRole('heading', { name: 'No span to compute from' }).waitFor();
	await page.goto(`${session.url}/?status=error&range=24h`);
	await page.getByRole('link', { name: 'Edit as TraceQL' }).click();
	await waitForAddress(page, /\/query\?q=%7B\+status\+%3D\+error\+%7D&range=24h/);
	await page.done();
});

for (const theme of ['dark', 'light']) {
	for (const width of [1440, 900, 390]) {
		test(`no axe violation, ${theme}, ${width} px`, async () => {
			const lines = [
				line('GET /cart', 0.01, [{ traceId: TRACE, spanId: SPAN, timeUnixNano: `${start()}000000`, value: 0.01 }]),
				line('GET', 0.02)
			];
			const { page } = await openQuery(href('{ } | avg_over_time(duration) by (name)'), answerOf(lines), {
				theme,
				width
			});
			await page.locator('.u-over').waitFor();
			await page.waitForTimeout(500);
			assert.deepEqual(await violations(page), []);
			await page.goto(session.url + href('{ status = error } | by(name)', '&tab=spans'));
			await page.getByRole('table', { name: 'Matching spans' }).getByRole('link').first().waitFor();
			assert.deepEqual(await violations(page), []);
			await page.goto(`${session.url}/query`);
			await page.locator('.cm-content').click();
			await page.keyboard.type('{ ');
			await page.getByRole('option').first().waitFor();
			await page.waitForTimeout(300);
			assert.deepEqual(await violations(page), []);
			await page.done();
		});
	}
}

test('nothing jumps while the page fills', async () => {
	const { page } = await openQuery(href('{ } | rate() by (name)'), answerOf([line('a', 1), line('b', 2)]), {
		delayMillis: 300
	});
	await seriesRows(page).first().waitFor();
	await page.locator('.u-over').waitFor();
	await page.waitForTimeout(400);
	assert.ok((await page.layoutShift()) < 0.05, `layout shift ${await page.layoutShift()}`);
	await page.done();
});
