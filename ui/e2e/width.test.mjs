/** Every page fits its screen, from a desk to a phone: nothing scrolls sideways, and what tells traces apart is in sight. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { findTracePath, openPage, startSession } from './session.mjs';

let session;
before(async () => (session = await startSession()));
after(() => session.stop());

const query = (text) => `/query?q=${encodeURIComponent(text)}`;
const results = (page) => page.getByText(/spans inspected/).waitFor();

/** The page's address and what is there when it has filled. */
const PAGES = {
	'the search': ['/', (page) => page.getByRole('link', { name: /GET|POST/ }).first().waitFor()],
	'a search with everything set': [
		'/?service=payment-provider&operation=charge+card&status=error&kind=client&minDuration=1ms&maxDuration=9s&attr=resource.cloud.region%3Deu-central-1&attr=server.address%3Da-very-long-name-of-a-server.example.internal&start=2026-01-01T00:00:00Z&end=2026-01-02T00:00:00Z&live=1&from=6h&at=2026-01-02T00:00:00Z&tenant=default',
		(page) => page.getByRole('heading', { name: 'No trace matches' }).waitFor()
	],
	'a heatmap as a table': [
		'/?range=24h',
		async (page) => {
			const panel = page.getByRole('region', { name: 'Durations' });
			await panel.getByRole('img', { name: /^Heatmap/ }).waitFor();
			await panel.getByRole('button', { name: 'As table' }).click();
			await panel.getByRole('table').waitFor();
		}
	],
	'a search in TraceQL': [`/?q=${encodeURIComponent('{ resource.service.name = "cart" && duration > 5ms && span.http.route != nil }')}`, results],
	'a refused search': [`/?q=${encodeURIComponent('{ this is no query')}`, (page) => page.getByRole('alert').waitFor()],
	// A real server’s answers are whole.
	...(process.env.TRACEHOUSE_URL ? {} : { 'a partial search': ['/?service=ads', (page) => page.getByText(/^Partial/).waitFor()] }),
	'the examples': ['/query', (page) => page.getByRole('heading', { name: 'Begin with an example' }).waitFor()],
	'a table of spans': [`${query('{ status = error && span.http.route != nil } | by(name)')}&tab=spans`, results],
	'a list of traces': [query('{ status = error }'), results],
	'time series': [query('{ } | rate() by (resource.service.name)'), results],
	'a heatmap': [query('{ } | histogram_over_time(duration)'), results],
	'a comparison': [query('{ } | compare({ status = error })'), results],
	'a list of values': [`${query('{ } | count_over_time() by (name)')}&step=all`, results],
	'a refused query': [query(`{ durations > 2s && ${'a'.repeat(80)} }`), (page) => page.getByRole('alert').waitFor()],
	'no such trace': ['/trace/0123456789abcdef0123456789abcdef', (page) => page.getByRole('alert').waitFor()]
};

/** What reaches beyond the right edge, for the message. */
const tooWide = (page) =>
	page.evaluate(() => {
		const width = document.documentElement.clientWidth;
		if (document.documentElement.scrollWidth <= width) return [];
		const reaches = (element) => element.getBoundingClientRect().right > width + 1;
		const beyond = [...document.querySelectorAll('body *')].filter((one) => reaches(one) && ![...one.children].some(reaches));
		return [`${document.documentElement.scrollWidth} px`, ...beyond.map((one) => `${one.tagName} ${one.getAttribute('class')}`)];
	});

const isInside = ({ x, width: size }, width) => x >= 0 && x + size <= width && size > 8;

test('on a phone range and live stand in one line, and a custom range in sight', async () => {
	const page = await openPage(session, '/', { width: 390 });
	await page.getByRole('table', { name: 'Traces found' }).getByRole('link').first().waitFor();
	const custom = page.getByRole('button', { name: 'Custom time range' });
	const live = page.getByRole('button', { name: 'Live' });
	const [one, other] = await Promise.all([custom.boundingBox(), live.boundingBox()]);
	assert.ok(Math.abs(one.y - other.y) < 4, `${one.y} and ${other.y}`);
	await custom.click();
	assert.ok(isInside(await page.locator('#custom-range').boundingBox(), 390));
	await page.done();
});

test('on a phone a table of spans shows durations before it is scrolled', async () => {
	const page = await openPage(session, `${query('{ status = error } | by(name)')}&tab=spans`, { width: 390 });
	const row = page.getByRole('table', { name: 'Matching spans' }).locator('tbody').getByRole('row').nth(1);
	await row.waitFor();
	assert.ok(isInside(await row.locator('.number').first().boundingBox(), 390));
	assert.ok((await row.locator('.name').boundingBox()).width > 100);
	await page.done();
});

test('on a phone the names of values and buckets are whole', async () => {
	const page = await openPage(session, `${query('{ } | count_over_time() by (name)')}&step=all`, { width: 390 });
	const names = page.getByRole('table', { name: 'Series over the whole time range' }).locator('tbody th');
	await names.first().waitFor();
	assert.deepEqual(await names.evaluateAll((all) => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)), []);
	await page.done();
});

test('a refused search shows the place of the fault under the query', async () => {
	const page = await openPage(session, `/?q=${encodeURIComponent('{ nonsense')}`, { width: 390, expectFailures: true });
	const fault = page.getByRole('alert').locator('pre');
	await fault.waitFor();
	assert.ok((await fault.boundingBox()).height > 60);
	assert.deepEqual(await tooWide(page), []);
	await page.done();
});

test('a house without a span fits a phone', async () => {
	const prepare = async (page) => {
		await page.route(/\/api\/v1\/status/, (route) => route.fulfill({ json: { spansStored: 0, spansHot: 0 } }));
		await page.route(/\/api\/v1\/search\?/, (route) => route.fulfill({ json: { traces: [] } }));
	};
	const page = await openPage(session, '/', { width: 390, prepare });
	await page.getByText('OTEL_EXPORTER_OTLP_ENDPOINT').waitFor();
	assert.deepEqual(await tooWide(page), []);
	await page.done();
});

for (const width of [1440, 900, 390]) {
	for (const [name, [path, isThere]] of Object.entries(PAGES)) {
		test(`${name} fits ${width} px`, async () => {
			const page = await openPage(session, path, { width, expectFailures: true });
			await isThere(page);
			assert.deepEqual(await tooWide(page), []);
			await page.done();
		});
	}

	test(`a trace with open details fits ${width} px`, async () => {
		const { path } = await findTracePath(session);
		const page = await openPage(session, path, { width });
		const rows = page.getByRole('treegrid').locator('[role="row"][aria-level]');
		await rows.first().click();
		await page.getByRole('table', { name: 'Resource attributes' }).waitFor();
		assert.deepEqual(await tooWide(page), []);
		await page.done();
	});

	test(`the list of traces shows roots, durations and errors in ${width} px`, async () => {
		const page = await openPage(session, '/?status=error&range=24h', { width });
		const table = page.getByRole('table', { name: 'Traces found' });
		const row = table.locator('tbody').getByRole('row').first();
		await row.getByRole('link').waitFor();
		for (const cell of [row.getByRole('link'), row.locator('.operation'), row.locator('.figure'), row.locator('.errors')]) {
			const { x, width: size } = await cell.boundingBox();
			assert.ok(x >= 0 && x + size <= width && size > 8);
		}
		assert.ok((await row.locator('.operation').boundingBox()).width > 24);
		await table.getByRole('columnheader', { name: 'Root' }).getByRole('button').click();
		await page.waitForURL(/sort=root/);
		await page.done();
	});
}
