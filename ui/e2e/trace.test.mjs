/** The trace page: waterfall, keyboard, search inside, details. Selects by role and label only. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { findTracePath, openPage, startSession, waitForAddress } from './session.mjs';

let session;
before(async () => (session = await startSession()));
after(() => session.stop());

const grid = (page) => page.getByRole('treegrid');
const dataRows = (page) => grid(page).locator('[role="row"][aria-level]');
const active = (page) =>
	page.evaluate(() => {
		const id = document.querySelector('[role="treegrid"]').getAttribute('aria-activedescendant');
		return Number(document.getElementById(id).getAttribute('aria-rowindex'));
	});
const rowCount = async (page) => Number(await grid(page).getAttribute('aria-rowcount')) - 1;

async function openTrace(query) {
	const { path, trace } = await findTracePath(session, query);
	const page = await openPage(session, path);
	await grid(page).waitFor();
	await dataRows(page).first().waitFor();
	return { page, trace };
}

test('a trace opens from the list, whole', async () => {
	const page = await openPage(session, '/');
	const link = page.getByRole('table', { name: 'Traces found' }).locator('tbody').getByRole('link').first();
	await link.waitFor();
	await link.click();
	await grid(page).waitFor();
	await page.goBack();
	await link.waitFor();
	await page.done();
});

test('a call says what it is about, as the API tells it', async () => {
	const { traces } = await (await fetch(`${session.url}/api/v1/search?limit=100&kind=client`)).json();
	let found = null;
	for (const { traceId } of traces) {
		const trace = await (await fetch(`${session.url}/api/v1/traces/${traceId}?targets=true`)).json();
		const at = trace.spans.target?.findIndex((target) => target >= 0) ?? -1;
		// Rows that are in the document at first.
		if (at < 0 || at > 12) continue;
		found = { traceId, text: `${trace.names[trace.spans.name[at]]} ${trace.targets[trace.spans.target[at]]}` };
		break;
	}
	assert.ok(found, 'no trace of the server under test has a call that is about something');
	const page = await openPage(session, `/trace/${found.traceId}`);
	await dataRows(page).filter({ hasText: found.text }).first().waitFor();
	await page.done();
});

test('arrows and letters move through the tree', async () => {
	const { page, trace } = await openTrace();
	assert.ok((await rowCount(page)) >= trace.spanCount);
	await grid(page).focus();
	assert.equal(await active(page), 2);
	await page.keyboard.press('ArrowDown');
	await page.keyboard.press('j');
	assert.equal(await active(page), 4);
	await page.keyboard.press('k');
	await page.keyboard.press('Home');
	assert.equal(await active(page), 2);
	const whole = await rowCount(page);
	const root = dataRows(page).first();
	assert.equal(await root.getAttribute('aria-expanded'), 'true');
	await page.keyboard.press('ArrowLeft');
	assert.equal(await root.getAttribute('aria-expanded'), 'false');
	assert.ok((await rowCount(page)) < whole);
	await page.keyboard.press('ArrowRight');
	assert.equal(await rowCount(page), whole);
	await page.keyboard.press('2');
	assert.ok((await rowCount(page)) < whole || (await grid(page).locator('[aria-level="3"]').count()) === 0);
	await page.keyboard.press('*');
	await page.keyboard.press('End');
	assert.equal(await active(page), whole + 1);
	await page.done();
});

test('Enter opens a span’s details, the address follows, Escape closes them', async () => {
	const { page } = await openTrace();
	await grid(page).focus();
	await page.keyboard.press('ArrowDown');
	await page.keyboard.press('Enter');
	const details = page.getByRole('complementary', { name: 'Span details' });
	await details.getByRole('table', { name: 'Resource attributes' }).waitFor();
	assert.match(await details.innerText(), /service\.name/);
	await waitForAddress(page, /span=[0-9a-f]{16}/);
	const shared = page.url();

	const other = await openPage(session, shared.slice(session.url.length));
	await other.getByRole('complementary', { name: 'Span details' }).getByRole('table', { name: 'Resource attributes' }).waitFor();
	await other.done();

	await page.getByLabel('Filter attributes').fill('service.name');
	assert.ok((await details.getByRole('row').count()) >= 1);
	await page.getByLabel('Filter attributes').press('Escape');
	await page.keyboard.press('Escape');
	await details.waitFor({ state: 'hidden' });
	await waitForAddress(page, (url) => !url.includes('span='));
	await page.done();
});

test('a value in the details leads to a search for it', async () => {
	const { page } = await openTrace();
	await grid(page).focus();
	await page.keyboard.press('Enter');
	const link = page.getByRole('link', { name: 'Search for this value of service.name', exact: true });
	await link.waitFor();
	await link.focus();
	await page.keyboard.press('Enter');
	await waitForAddress(page, /attr=resource\.service\.name%3D/);
	await page.getByRole('table', { name: 'Traces found' }).locator('tbody').getByRole('link').first().waitFor();
	await page.done();
});

test('the search in the trace counts and steps', async () => {
	const { page, trace } = await openTrace();
	await page.keyboard.press('/');
	const field = page.getByLabel('Find spans');
	await field.fill(trace.rootServiceName);
	const count = page.getByRole('search', { name: 'In this trace' }).getByRole('status');
	await count.filter({ hasText: /^\s*1 of \d+\s*$/ }).waitFor();
	const total = Number((await count.innerText()).match(/of (\d+)/)[1]);
	assert.ok(total >= 1);
	await field.press('Enter');
	if (total > 1) await count.filter({ hasText: `2 of ${total}` }).waitFor();
	await field.fill('nothing has this in it');
	await count.filter({ hasText: 'none' }).waitFor();
	await field.press('Escape');
	await waitForAddress(page, (url) => !url.includes('find='));
	await page.done();
});

test('zooming narrows the time on screen and is shareable', async () => {
	const { page } = await openTrace();
	await page.keyboard.press(']');
	await page.keyboard.press(']');
	await waitForAddress(page, /zoom=\d+-\d+/);
	await page.keyboard.press('[');
	await page.getByRole('button', { name: 'Whole trace' }).click();
	await waitForAddress(page, (url) => !url.includes('zoom='));
	await page.done();
});

test('a failed span is marked and can be jumped to', async () => {
	const { page } = await openTrace('&status=error');
	await page.keyboard.press('e');
	const row = await active(page);
	const name = await grid(page).locator(`[role="row"][aria-rowindex="${row}"]`).innerText();
	assert.match(name, /error/);
	await page.done();
});

test('an unknown trace says so', async () => {
	const page = await openPage(session, '/trace/0123456789abcdef0123456789abcdef', { expectFailures: true });
	await page.getByRole('alert').waitFor();
	await page.getByRole('link', { name: 'Go to the search' }).waitFor();
	await page.done();
});

test('a pasted trace id opens the trace', async () => {
	const { trace } = await findTracePath(session);
	const page = await openPage(session, '/');
	await page.keyboard.press('g');
	await page.keyboard.press('t');
	const field = page.getByRole('combobox', { name: 'Go to, or do' });
	await field.fill('no such thing');
	await page.getByText('Nothing fits').waitFor();
	await field.fill(` ${trace.traceId.toUpperCase()} `);
	await field.press('Enter');
	await waitForAddress(page, new RegExp(trace.traceId));
	await grid(page).waitFor();
	await page.done();
});

test('on a narrow screen the details lie below', async () => {
	const { path } = await findTracePath(session);
	const page = await openPage(session, path, { width: 900 });
	await dataRows(page).first().click();
	const details = page.getByRole('complementary', { name: 'Span details' });
	await details.waitFor();
	const [above, below] = await Promise.all([grid(page).boundingBox(), details.boundingBox()]);
	assert.ok(below.y >= above.y + above.height - 2);
	await page.done();
});

test('nothing jumps while a trace opens', async () => {
	const { page } = await openTrace();
	await page.waitForTimeout(500);
	assert.ok((await page.layoutShift()) < 0.05, `layout shift ${await page.layoutShift()}`);
	await page.done();
});
