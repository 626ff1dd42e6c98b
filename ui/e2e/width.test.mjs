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
		'/?service=payment-provider&operation=charge+card&status=error&kind=client&minDuration=1ms&maxDuration=9s&attr=resource.cloud.region%3Deu-central-1&attr=server.address%3Da-very-long-name-of-a-server.example.internal&start=2026-01-01T00:00:00Z&end=2026-01-02T00:00:00Z&live=1',
		(page) => page.getByRole('heading', { name: 'No trace matches' }).waitFor()
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
