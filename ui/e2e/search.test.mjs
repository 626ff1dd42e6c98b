/** The search page: it lists, filters, sorts, keeps everything in the address. Selects by role and label only. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openPage, startSession, waitForAddress } from './session.mjs';

let session;
before(async () => (session = await startSession()));
after(() => session.stop());

const rows = (page) => page.getByRole('table', { name: 'Traces found' }).locator('tbody').getByRole('row');
const links = (page) => rows(page).getByRole('link');

async function openSearch(path = '/') {
	const page = await openPage(session, path);
	await links(page).first().waitFor();
	return page;
}

test('lists traces, newest first, and plots them', async () => {
	const page = await openSearch();
	assert.ok((await links(page).count()) > 0);
	const started = await rows(page).locator('time').allInnerTexts();
	const clocks = started.map((text) => text.match(/\d\d:\d\d:\d\d\.\d{3}/)[0]);
	// Around midnight the clock starts again; elsewhere it runs down the list.
	if (clocks[0] > '01:00') assert.deepEqual(clocks, clocks.toSorted().reverse());
	await page.getByRole('link', { name: 'Listed traces' }).click();
	await page.getByRole('img', { name: /traces? by start and duration/ }).waitFor();
	await page.getByRole('link', { name: 'All matches' }).click();
	await page.getByRole('img', { name: /^Heatmap of the durations/ }).waitFor();
	await page.done();
});

test('a filter goes into the address, and back undoes it', async () => {
	const page = await openSearch();
	const before = page.url();
	await page.getByRole('combobox', { name: 'Status' }).selectOption('error');
	await waitForAddress(page, /status=error/);
	await page.getByLabel('Shortest duration').fill('1');
	await page.getByLabel('Shortest duration').press('Enter');
	await waitForAddress(page, /minDuration=1ms/);
	await page.goBack();
	await page.goBack();
	await waitForAddress(page, (url) => url === before);
	assert.equal(await page.getByRole('combobox', { name: 'Status' }).inputValue(), '');
	await page.done();
});

test('services are offered, and one narrows the list', async () => {
	const page = await openSearch();
	const service = page.getByRole('combobox', { name: 'Service' });
	await service.click();
	const option = page.getByRole('listbox', { name: /Service/ }).getByRole('option').first();
	await option.waitFor();
	const name = (await option.innerText()).trim();
	await service.press('ArrowDown');
	await service.press('Enter');
	await waitForAddress(page, (url) => new URL(url).searchParams.get('service') === name);
	assert.equal(await service.inputValue(), name);
	await page.done();
});

test('an attribute filter is completed from key to value, edited and removed', async () => {
	const page = await openSearch();
	const field = page.getByRole('combobox', { name: 'Attribute filter' });
	await field.fill('service.name');
	await page.getByRole('option').filter({ hasText: 'service.name' }).first().click();
	await page.getByRole('option').filter({ hasText: 'is' }).first().click();
	await page.getByRole('listbox', { name: /Attribute filter/ }).getByRole('option').first().click();
	await waitForAddress(page, /attr=resource\.service\.name%3D/);
	const remove = page.getByRole('button', { name: /^Remove resource\.service\.name/ });
	await remove.waitFor();
	await links(page).first().waitFor();
	await remove.click();
	await waitForAddress(page, (url) => !url.includes('attr='));
	await page.done();
});

test('TraceQL starts from the filters', async () => {
	const page = await openSearch('/?status=error&range=24h');
	await page.getByRole('button', { name: 'TraceQL' }).click();
	const query = page.getByLabel('TraceQL query');
	assert.equal(await query.inputValue(), '{ status = error }');
	await waitForAddress(page, /q=/);
	await links(page).first().waitFor();
	await page.done();
});

/** The answer to the next question of this kind. */
const answerTo = async (page, path) => (await page.waitForResponse((response) => response.url().includes(path) && response.ok())).json();

test('columns sort all that match, not only what is listed', async () => {
	const page = await openSearch('/?limit=20');
	const [answer] = await Promise.all([
		answerTo(page, 'sort=-duration'),
		page.getByRole('columnheader', { name: 'Duration' }).getByRole('button').click()
	]);
	await waitForAddress(page, /sort=-duration/);
	assert.equal(await page.getByRole('columnheader', { name: 'Duration' }).getAttribute('aria-sort'), 'descending');
	const matched = answer.tracesMatched;
	await page.getByText(matched > 20 ? `Longest 20 of ${matched.toLocaleString('en-US')} traces` : `${matched} trace`).waitFor();
	const href = await links(page).first().getAttribute('href');
	assert.ok(href.startsWith(`/trace/${answer.traces[0].traceId}`), href);
	await page.done();
});

test('all that match are counted and drawn, with the figures of the API', async () => {
	const asked = [];
	const answers = [];
	const page = await openPage(session, '/?status=error&limit=20', {
		prepare: (page) =>
			page.on('response', (response) => {
				if (!/\/api\/v1\/(metrics|search\/count)/.test(response.url())) return;
				asked.push(response.url());
				// What comes as the page closes is of no use.
				answers.push(response.json().catch(() => null));
			})
	});
	await links(page).first().waitFor();
	const head = page.getByRole('region', { name: 'Matching spans', exact: true });
	await head.getByText(/^[\d,]+, [\d,]+ failed$/).waitFor();
	const services = page.getByRole('list', { name: 'Matching spans by service' }).getByRole('button');
	await services.first().waitFor();
	await page.getByRole('img', { name: /^Heatmap of the durations of [\d,]+ spans/ }).waitFor();
	const of = async (what) => (await answers[asked.findIndex((url) => decodeURIComponent(url).replaceAll('+', ' ').includes(what))]);
	const total = (series) => series.values.reduce((sum, value) => sum + value, 0);
	const statuses = await of('by (status)');
	const failed = Math.round(statuses.series.reduce((sum, series) => sum + total(series), 0)).toLocaleString('en-US');
	assert.equal(await head.getByText(/ failed$/).innerText(), `${failed}, ${failed} failed`);
	const most = (await of('by (resource.service.name)')).series.toSorted((one, other) => total(other) - total(one))[0];
	assert.match(await services.first().innerText(), new RegExp(`^${most.labels[0].value}`));
	await head.getByRole('button', { name: 'As table' }).click();
	const cells = await head.getByRole('table').locator('tbody tr td:last-child').allInnerTexts();
	const drawn = cells.reduce((sum, text) => sum + Number(text.replaceAll(',', '')), 0);
	assert.equal(Math.round(drawn).toLocaleString('en-US'), failed);
	await services.first().click();
	await waitForAddress(page, (url) => new URL(url).searchParams.get('service') === most.labels[0].value);
	await page.done();
});

test('matches are counted by any attribute, and a value narrows the search', async () => {
	const page = await openSearch('/?range=24h');
	const by = page.getByRole('combobox', { name: 'By', exact: true });
	await by.focus();
	await by.locator('option', { hasText: 'span.http.route' }).waitFor({ state: 'attached' });
	await by.selectOption('span.http.route');
	await waitForAddress(page, /by=span\.http\.route/);
	const values = page.getByRole('list', { name: 'Matching spans by span.http.route' }).getByRole('button');
	const named = values.filter({ hasText: '/' }).first();
	await named.waitFor();
	const name = (await named.locator('bdi').innerText()).trim();
	await named.click();
	await waitForAddress(page, (url) => new URL(url).searchParams.get('q') === `{ span.http.route = "${name}" }`);
	await page.getByRole('list', { name: 'Matching spans by span.http.route' }).getByRole('button').nth(1).waitFor({ state: 'detached' });
	assert.equal(await values.count(), 1);
	await by.selectOption('status');
	await page.getByRole('list', { name: 'Matching spans by status' }).waitFor();
	await page.done();
});

test('what is different about a part of the heatmap is told, and it can be zoomed into', async () => {
	const page = await openSearch('/?range=24h');
	const heatmap = page.getByRole('img', { name: /^Heatmap of the durations of [\d,]+ spans/ });
	await heatmap.waitFor();
	// All times, and the shorter durations.
	const box = await heatmap.boundingBox();
	await page.mouse.move(box.x + 70, box.y + box.height / 2);
	await page.mouse.down();
	await page.mouse.move(box.x + box.width - 20, box.y + box.height - 28, { steps: 4 });
	await page.mouse.up();
	await waitForAddress(page, /pick=\d+-\d+-\d+-\d+/);
	const first = page.url();
	const part = page.getByRole('region', { name: 'What is different about the part' });
	await part.getByText(/^[\d,]+ spans? of [\d,]+$/).waitFor();
	const [picked, all] = (await part.getByText(/^[\d,]+ spans? of [\d,]+$/).innerText()).match(/[\d,]+/g).map((text) => Number(text.replaceAll(',', '')));
	assert.ok(picked > 0 && picked < all, `${picked} of ${all}`);
	// By keys, from the first cell on; what nothing lies in is said.
	await heatmap.focus();
	for (const key of ['ArrowRight', 'Shift+ArrowRight', 'Shift+ArrowUp', 'Enter']) await page.keyboard.press(key);
	await waitForAddress(page, (url) => /pick=/.test(url) && !url.includes(new URL(first).searchParams.get('pick')));
	await page.goBack();
	await waitForAddress(page, (url) => url === first);
	// What is shown is what the address says, and it goes without a trace.
	await page.reload();
	await part.getByText(/^[\d,]+ spans? of [\d,]+$/).waitFor();
	await part.getByRole('button', { name: 'Close' }).click();
	await waitForAddress(page, (url) => !url.includes('pick='));
	assert.equal(await part.count(), 0);
	await page.goBack();
	await part.getByRole('button', { name: 'Zoom in' }).click();
	await waitForAddress(page, /^(?!.*pick=).*minDuration=\d+[nu]s&maxDuration=\d+[nu]s.*start=/);
	await page.done();
});

test('a search without results says what to try', async () => {
	const page = await openPage(session, '/?service=no-such-service-anywhere');
	await page.getByRole('heading', { name: 'No trace matches' }).waitFor();
	await page.getByRole('button', { name: 'Clear all filters' }).last().click();
	await waitForAddress(page, (url) => !url.includes('service='));
	await links(page).first().waitFor();
	await page.done();
});

test('a query that cannot be read shows the server’s words', async () => {
	const page = await openPage(session, `/?q=${encodeURIComponent('{ this is not a query')}`, { expectFailures: true });
	const alert = page.getByRole('alert');
	await alert.waitFor();
	assert.ok((await alert.innerText()).length > 20);
	await page.getByRole('button', { name: 'Try again' }).waitFor();
	await page.done();
});

test('the keyboard walks the results and opens one', async () => {
	const page = await openSearch();
	await page.keyboard.press('j');
	await page.keyboard.press('j');
	const href = await page.evaluate(() => document.activeElement?.getAttribute('href'));
	assert.match(href, /^\/trace\/[0-9a-f]{32}/);
	await page.keyboard.press('Enter');
	await waitForAddress(page, /\/trace\//);
	await page.getByRole('treegrid').waitFor();
	await page.keyboard.press('g');
	await page.keyboard.press('s');
	await links(page).first().waitFor();
	await page.done();
});

test('help opens and closes with keys', async () => {
	const page = await openSearch();
	await page.keyboard.press('?');
	await page.getByRole('dialog', { name: 'Keyboard' }).waitFor();
	await page.keyboard.press('Escape');
	await page.getByRole('dialog', { name: 'Keyboard' }).waitFor({ state: 'hidden' });
	await page.done();
});

test('nothing jumps while the page fills', async () => {
	const page = await openSearch();
	await page.waitForTimeout(500);
	assert.ok((await page.layoutShift()) < 0.05, `layout shift ${await page.layoutShift()}`);
	await page.done();
});
