/** A trace on a phone: names can be read however long and deep, and details never hide the row they belong to. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { findTracePath, openPage, startSession } from './session.mjs';

let session;
before(async () => (session = await startSession()));
after(() => session.stop());

const WIDTH = 390;
const NAME_WIDTH_MIN = 200;
/** What WCAG 2.5.8 asks of a target. */
const TARGET_MIN = 24;
const LONG_NAME = 'GET /api/v2/customers/{customerId}/orders/{orderId}/shipments/{shipmentId}/labels';

const grid = (page) => page.getByRole('treegrid');
const rows = (page) => grid(page).locator('[role="row"][aria-level]');
const details = (page) => page.getByRole('complementary', { name: 'Span details' });

/** Makes of a trace one call inside the other, with long names. */
async function deepen(page) {
	await page.route(/\/traces\/\w+\?/, async (route) => {
		const answer = await (await route.fetch()).json();
		const repeated = (list, of) => Array.from({ length: 60 }, (_, index) => of(list[index % list.length], index));
		const { spans } = answer;
		for (const column of Object.keys(spans)) spans[column] = repeated(spans[column], (value) => value);
		spans.parent = repeated(spans.parent, (_, index) => index - 1);
		answer.names = answer.names.map((name) => `${LONG_NAME} ${name}`);
		answer.spanCount = answer.returned = 60;
		await route.fulfill({ json: answer });
	});
}

async function openTrace(options = {}) {
	const { path } = await findTracePath(session, '&status=error');
	const page = await openPage(session, path, { width: WIDTH, ...options });
	await rows(page).first().waitFor();
	return page;
}

const isBetween = (box, above, below) => box.y >= above.y + above.height - 1 && box.y + box.height <= below.y + 1;

test('long names of deep spans can be read, with service, duration and bar', async () => {
	const page = await openTrace({ prepare: deepen });
	await grid(page).focus();
	await page.keyboard.press('End');
	await grid(page).locator('[role="row"][aria-level="60"]').waitFor();
	for (const row of (await rows(page).all()).slice(-6)) {
		const [whole, name, service, figure, track] = await Promise.all(
			['.words', '.operation', '.service', '.figure', '.track'].map((part) => row.locator(part).boundingBox())
		);
		assert.ok(name.width >= NAME_WIDTH_MIN, `${name.width} px for the name`);
		// A short one, as "tax", needs less.
		const isWhole = await row.locator('.service').evaluate((element) => element.scrollWidth <= element.clientWidth + 1);
		assert.ok((service.width > 20 || isWhole) && service.y >= name.y + name.height - 2, `${service.width} px for the service`);
		assert.ok(figure.x >= whole.x + whole.width - 1 && figure.x + figure.width <= WIDTH);
		assert.ok(track.width > WIDTH * 0.85 && track.y >= service.y + service.height - 2);
	}
	assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= WIDTH);
	await page.done();
});

test('rows have one height and follow each other, and a finger can fold them', async () => {
	const page = await openTrace();
	const boxes = await Promise.all((await rows(page).all()).map((row) => row.boundingBox()));
	for (const [index, { y, height }] of boxes.entries()) {
		assert.equal(height, boxes[0].height);
		if (index > 0) assert.equal(y, boxes[index - 1].y + height);
	}
	assert.ok(boxes[0].height >= TARGET_MIN);
	const toggle = rows(page).first().locator('[data-toggle]');
	const { width, height } = await toggle.boundingBox();
	assert.ok(width >= TARGET_MIN && height >= TARGET_MIN, `${width} × ${height}`);
	await toggle.click();
	assert.equal(await rows(page).first().getAttribute('aria-expanded'), 'false');
	await page.done();
});

test('details leave the row they belong to in sight, and leave the others where they are when they close', async () => {
	const page = await openTrace({ prepare: deepen });
	const [seen, row] = [await grid(page).boundingBox(), await rows(page).first().boundingBox()];
	const fitting = Math.floor((seen.y + seen.height - row.y) / row.height);
	assert.ok(fitting > 5, `${fitting} rows`);
	const low = rows(page).nth(fitting - 1);
	await low.click();
	await details(page).getByRole('table', { name: 'Resource attributes' }).waitFor();
	const head = grid(page).getByRole('rowgroup').first();
	assert.ok(isBetween(await low.boundingBox(), await head.boundingBox(), await details(page).boundingBox()));
	// Several rows stay beside them, for what a span means is told by those around it.
	assert.ok((await grid(page).boundingBox()).height > 200);
	const before = await low.boundingBox();
	await page.getByRole('button', { name: 'Close details' }).click();
	await details(page).waitFor({ state: 'hidden' });
	const after = await low.boundingBox();
	const headAfter = await head.boundingBox();
	assert.ok(Math.abs(after.y - before.y) < 2 || Math.abs(after.y - headAfter.y - headAfter.height) < 2, `${before.y} to ${after.y}`);
	await page.done();
});

test('errors can be stepped through while details are open', async () => {
	const page = await openTrace();
	await rows(page).first().click();
	await details(page).waitFor();
	await page.getByRole('button', { name: 'Next error' }).click();
	await details(page).getByText('error', { exact: true }).waitFor();
	const selected = grid(page).locator('[aria-selected="true"]');
	const head = grid(page).getByRole('rowgroup').first();
	assert.ok(isBetween(await selected.boundingBox(), await head.boundingBox(), await details(page).boundingBox()));
	await page.done();
});

test('a turned phone keeps the row', async () => {
	const page = await openTrace({ prepare: deepen });
	await grid(page).focus();
	for (let step = 0; step < 30; step += 1) await page.keyboard.press('j');
	for (const size of [{ width: 844, height: WIDTH }, { width: WIDTH, height: 844 }]) {
		await page.setViewportSize(size);
		await page.waitForTimeout(200);
		const id = await grid(page).getAttribute('aria-activedescendant');
		const [row, frame] = await Promise.all([page.locator(`#${id}`).boundingBox(), grid(page).boundingBox()]);
		assert.ok(row.y >= frame.y && row.y + row.height <= frame.y + frame.height + 1, `${row.y} in ${frame.y} + ${frame.height}`);
	}
	await page.done();
});

test('nothing jumps while a trace opens', async () => {
	const page = await openTrace();
	await page.waitForTimeout(500);
	assert.ok((await page.layoutShift()) < 0.05, `layout shift ${await page.layoutShift()}`);
	await page.done();
});
