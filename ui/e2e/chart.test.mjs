/** Charts: keys and pointer select and open, live answers and new widths keep the plot, what is shown can be read and saved. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { openPage, startSession, waitForAddress } from './session.mjs';

let session;
before(async () => (session = await startSession()));
after(() => session.stop());

const query = (text, more = '') => `/query?q=${encodeURIComponent(text)}${more}`;
const RATE = '{ } | rate() by (resource.service.name)';
const points = (page) => page.getByRole('img', { name: /traces? by start and duration/ });
const lines = (page) => page.getByRole('img', { name: /time series in/ });
const heat = (page) => page.getByRole('img', { name: /^Heatmap of/ });
const tip = (page) => page.locator('.tip');

test('the arrow keys walk the points, select a box, and Enter zooms or opens', async () => {
	const page = await openPage(session, '/?plot=traces');
	await page.getByRole('table', { name: 'Traces found' }).getByRole('link').first().waitFor();
	await points(page).focus();
	await page.keyboard.press('ArrowRight');
	const first = await tip(page).innerText();
	await page.keyboard.press('ArrowRight');
	assert.notEqual(await tip(page).innerText(), first);
	assert.equal(await page.locator('[aria-live="polite"]', { has: tip(page) }).count(), 1);
	for (let step = 0; step < 6; step += 1) await page.keyboard.press('Shift+ArrowRight');
	await page.keyboard.press('Enter');
	await waitForAddress(page, /start=.*&end=/);
	await page.goBack();
	await waitForAddress(page, (url) => !url.includes('start='));
	await points(page).focus();
	await page.keyboard.press('ArrowRight');
	await page.keyboard.press('Escape');
	await tip(page).waitFor({ state: 'hidden' });
	await page.keyboard.press('ArrowLeft');
	await page.keyboard.press('Enter');
	await waitForAddress(page, /\/trace\/[0-9a-f]{32}/);
	await page.done();
});

/** `drawn` is there when there is something to walk along: what draws lines comes after the page. */
for (const [name, text, chart, drawn] of [
	['the lines', RATE, lines, '.uplot'],
	['the heatmap', '{ } | histogram_over_time(duration)', heat, 'main canvas']
]) {
	test(`the arrow keys walk ${name}, and Enter zooms into what Shift selects`, async () => {
		const page = await openPage(session, query(text));
		await chart(page).waitFor();
		await page.locator('.skeleton').waitFor({ state: 'hidden' });
		await page.locator(drawn).waitFor();
		await chart(page).focus();
		await page.keyboard.press('ArrowRight');
		await page.keyboard.press('ArrowUp');
		await tip(page).waitFor();
		assert.match(await tip(page).innerText(), /\d\d:\d\d:\d\d UTC/);
		for (let step = 0; step < 9; step += 1) await page.keyboard.press('Shift+ArrowRight');
		await page.keyboard.press('Enter');
		await waitForAddress(page, /start=.*&end=/);
		await page.done();
	});
}

test('live answers, another width and theme change the plot and make no other', async () => {
	const page = await openPage(session, query(RATE, '&live=1'));
	const plot = page.locator('.uplot');
	await plot.waitFor();
	await plot.evaluate((element) => (element.dataset.first = 'yes'));
	const tableOf = () => page.getByRole('table', { name: /^Series/ }).locator('tbody').innerText();
	const before = await tableOf();
	for (let turn = 0; turn < 2; turn += 1) await page.waitForResponse(/\/metrics\?/);
	await page.setViewportSize({ width: 900, height: 900 });
	await page.getByRole('button', { name: /^Theme/ }).click();
	await page.getByRole('button', { name: 'Last 6h' }).click();
	await page.waitForResponse(/\/metrics\?/);
	await page.waitForFunction((text) => document.querySelector('main table tbody').innerText !== text, before);
	assert.equal(await plot.getAttribute('data-first'), 'yes');
	const canvas = await plot.locator('canvas').boundingBox();
	assert.ok(canvas.width <= 900 && canvas.width > 700, `${canvas.width} px`);
	await page.done();
});

test('a chart is read as a table and saved in three formats', async () => {
	const page = await openPage(session, query(RATE));
	const panel = page.getByRole('region', { name: 'Series over time' });
	await page.locator('.uplot').waitFor();
	async function saved(format) {
		await panel.getByText('Save', { exact: true }).click();
		const [download] = await Promise.all([page.waitForEvent('download'), panel.getByRole('button', { name: format, exact: true }).click()]);
		assert.match(download.suggestedFilename(), new RegExp(`^tracehouse-series-over-time-.*\\.${format.toLowerCase()}$`));
		return readFile(await download.path());
	}
	const csv = (await saved('CSV')).toString().trimEnd().split('\r\n');
	assert.match(csv[0], /^time,/);
	assert.match(csv[1], /^\d{4}-\d\d-\d\dT[\d:.]+Z,/);
	const { columns, rows } = JSON.parse(await saved('JSON'));
	assert.deepEqual([columns.join(), rows.length], [csv[0], csv.length - 1]);
	assert.deepEqual([...(await saved('PNG')).subarray(1, 4)], [...Buffer.from('PNG')]);
	await panel.getByRole('button', { name: 'As table' }).click();
	const table = panel.getByRole('table', { name: 'Series over time, as a table' });
	assert.equal(await table.getByRole('columnheader').count(), columns.length);
	await panel.getByRole('button', { name: 'As table' }).click();
	await lines(page).waitFor();
	await page.locator('.uplot').waitFor();
	await page.done();
});

test('the heatmap of a search opens as a query', async () => {
	const page = await openPage(session, '/?status=error');
	const durations = page.getByRole('region', { name: 'Durations' });
	await durations.getByRole('link', { name: 'Open as query' }).click();
	await page.getByRole('table', { name: 'Spans in each bucket' }).waitFor();
	assert.equal(new URL(page.url()).searchParams.get('q'), '{ status = error } | histogram_over_time(duration)');
	await page.done();
});
