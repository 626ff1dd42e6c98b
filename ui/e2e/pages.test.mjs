/** What holds for every page, a row each: a new page is one more row here. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { findTracePath, openPage, startSession, waitForAddress } from './session.mjs';

const axeSource = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
let session;
before(async () => (session = await startSession()));
after(() => session.stop());

const query = (text) => `/query?q=${encodeURIComponent(text)}&range=24h`;

/**
 * `address` of the page in a state worth sharing; `question` is the path of what it asks first; `shown` is there once that is answered, and
 * says the same whenever it is; `partial` makes its answer one that lacks something.
 */
const PAGES = {
	search: {
		address: () => '/?status=error&range=24h&sort=-duration',
		question: /\/api\/v1\/search\?/,
		shown: (page) => page.getByRole('table', { name: 'Traces found' }).getByRole('link').first(),
		partial: (answer) => ({ ...answer, complete: false, partialReason: '2 of 3 files were read' })
	},
	'live tail': {
		address: () => '/?view=tail&q=%7B%7D',
		question: /\/api\/v1\/tail\?/,
		shown: (page) => page.getByText(/ since \d/).first(),
		partial: (answer) => ({ ...answer, complete: false, partialReason: '2 of 3 files were read' })
	},
	'query for traces': {
		address: () => query('{ status = error }'),
		question: /\/api\/v1\/search\?/,
		shown: (page) => page.getByRole('table', { name: 'Traces found' }).getByRole('link').first(),
		partial: (answer) => ({ ...answer, complete: false, partialReason: '2 of 3 files were read' })
	},
	'query for series': {
		address: () => `${query('{ } | count_over_time() by (resource.service.name)')}&step=all`,
		question: /\/api\/v1\/metrics\?/,
		shown: (page) => page.getByRole('table', { name: 'Series over the whole time range' }).locator('tbody th').first(),
		partial: (answer) => ({ ...answer, complete: false, partialReason: '2 of 3 files were read' })
	},
	'spans over time': {
		address: () => `${query('{ status = error }')}&tab=series&step=all`,
		question: /\/api\/v1\/metrics\?/,
		shown: (page) => page.getByRole('table', { name: 'Series over the whole time range' }).locator('tbody th').first(),
		partial: (answer) => ({ ...answer, complete: false, partialReason: '2 of 3 files were read' })
	},
	trace: {
		address: async () => (await findTracePath(session, '&status=error')).path,
		question: /\/api\/v1\/traces\/[0-9a-f]{32}\?/,
		shown: (page) => page.getByRole('treegrid').getByRole('row').nth(1),
		partial: (answer) => ({ ...answer, complete: false, spanCount: answer.spanCount + 7, partialReason: '2 of 3 files were read' })
	}
};

async function open(row, options) {
	const address = await row.address();
	const page = await openPage(session, address, options);
	return { page, address, shown: row.shown(page) };
}

/** What reaches beyond the right edge. */
const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

async function violations(page) {
	await page.evaluate(axeSource);
	const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
	return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
}

for (const [name, row] of Object.entries(PAGES)) {
	test(`${name}: a reload shows the same`, async () => {
		const { page, shown } = await open(row);
		const before = await shown.innerText();
		const address = page.url();
		await page.reload();
		await shown.waitFor();
		assert.equal(page.url(), address);
		assert.equal(firstWords(await shown.innerText()), firstWords(before));
		await page.done();
	});

	test(`${name}: Back leads back to it`, async () => {
		const { page, shown } = await open(row, { expectFailures: true });
		await shown.waitFor();
		const address = page.url();
		await page.keyboard.press('Control+k');
		await page.getByRole('dialog').getByRole('combobox').fill('0123456789abcdef0123456789abcdef');
		await page.keyboard.press('Enter');
		await waitForAddress(page, /\/trace\/0123456789abcdef0123456789abcdef/);
		await page.goBack();
		await waitForAddress(page, (url) => url === address);
		await shown.waitFor();
		await page.done();
	});

	test(`${name}: a server that does not answer is named, and asked again`, async () => {
		const { page, shown } = await open(row, {
			expectFailures: true,
			prepare: (page) => page.route(row.question, (route) => route.abort())
		});
		const alert = page.getByRole('main').getByRole('alert').first();
		await alert.waitFor();
		assert.ok((await alert.innerText()).length > 20);
		await page.unroute(row.question);
		await page.getByRole('main').getByRole('button', { name: /again/i }).first().click();
		await shown.waitFor();
		await alert.waitFor({ state: 'detached' });
		await page.done();
	});

	test(`${name}: while the answer takes its time the page stands`, async () => {
		let answer;
		const held = new Promise((resolve) => (answer = resolve));
		const { page, shown } = await open(row, {
			prepare: (page) => page.route(row.question, async (route) => (await held, route.continue()))
		});
		await page.getByRole('main').getByRole('heading').first().waitFor({ state: 'attached' });
		assert.equal(await shown.count(), 0);
		assert.equal(await page.getByRole('main').getByRole('alert').count(), 0);
		answer();
		await shown.waitFor();
		assert.ok((await page.layoutShift()) < 0.1, `moved by ${await page.layoutShift()}`);
		await page.done();
	});

	test(`${name}: what is missing is said`, async () => {
		const { page, shown } = await open(row, {
			prepare: (page) =>
				page.route(row.question, async (route) => {
					const response = await route.fetch();
					await route.fulfill({ response, json: row.partial(await response.json()) });
				})
		});
		await shown.waitFor();
		await page.getByText(/2 of 3 files were read/).first().waitFor();
		await page.done();
	});

	// 720 pixels are what a window of 1440 has at 200 %.
	for (const [theme, width] of [['dark', 720], ['light', 390]]) {
		test(`${name}: fits ${width} pixels and has no axe violation, ${theme}`, async () => {
			const { page, shown } = await open(row, { theme, width });
			await shown.waitFor();
			assert.equal(await overflow(page), 0);
			assert.deepEqual(await violations(page), []);
			await page.done();
		});
	}
}

/** Without what grows with time: how long ago something was. */
function firstWords(text) {
	return text.replace(/\d+[smhd] ago|[\d,]+ (of [\d,]+ listed|matched)\s+since .*/, '').trim();
}
