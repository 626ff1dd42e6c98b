/** No axe violation on either page, in either theme, wide and narrow. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { findTracePath, openPage, startSession } from './session.mjs';

const axeSource = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
let session;
before(async () => (session = await startSession()));
after(() => session.stop());

async function violations(page) {
	await page.evaluate(axeSource);
	const { violations: found } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
	return found.map(({ id, help, nodes }) => `${id}: ${help}\n${nodes.map((node) => `   ${node.html}\n   ${node.failureSummary}`).join('\n')}`);
}

for (const theme of ['dark', 'light']) {
	for (const width of [1440, 900, 390]) {
		test(`the search, ${theme}, ${width} px`, async () => {
			const page = await openPage(session, '/', { theme, width });
			await page.getByRole('table', { name: 'Traces found' }).getByRole('link').first().waitFor();
			assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), theme);
			assert.deepEqual(await violations(page), []);
			await page.getByRole('combobox', { name: 'Attribute filter' }).click();
			await page.getByRole('listbox', { name: /Attribute filter/ }).getByRole('option').first().waitFor();
			assert.deepEqual(await violations(page), []);
			await page.done();
		});

		test(`a trace with open details and matches, ${theme}, ${width} px`, async () => {
			const { path, trace } = await findTracePath(session, '&status=error');
			const page = await openPage(session, `${path}?find=${encodeURIComponent(trace.rootServiceName)}`, { theme, width });
			await page.getByRole('treegrid').waitFor();
			await page.keyboard.press('e');
			await page.keyboard.press('Enter');
			await page.getByRole('table', { name: 'Resource attributes' }).waitFor();
			await page.waitForTimeout(300);
			assert.deepEqual(await violations(page), []);
			await page.done();
		});
	}

	test(`a search zoomed in, as of a moment, of a tenant, that fails, ${theme}`, async () => {
		const scope = `range=6h&from=7d&at=${new Date().toISOString()}&tenant=default`;
		const page = await openPage(session, `/?${scope}`, { theme, expectFailures: true });
		await page.getByRole('table', { name: 'Traces found' }).getByRole('link').first().waitFor();
		await page.getByRole('button', { name: 'Custom time range' }).click();
		assert.deepEqual(await violations(page), []);
		await page.keyboard.press('Escape');
		await page.route(/\/search\?/, (route) => route.fulfill({ status: 503, json: { title: 'Too many questions' } }));
		await page.getByRole('button', { name: 'Search again' }).click();
		await page.getByText('It is asked again by itself').waitFor();
		await page.waitForTimeout(400);
		assert.deepEqual(await violations(page), []);
		await page.done();
	});

	test(`saved queries and the palette, ${theme}`, async () => {
		const page = await openPage(session, '/query?q=%7B%7D', { theme, expectFailures: true });
		const dialog = page.getByRole('dialog', { name: 'Saved queries' });
		await page.getByRole('button', { name: 'Saved', exact: true }).click();
		for (const button of ['Save', 'Replace it']) {
			await dialog.getByRole('textbox', { name: 'Name of what this page shows' }).fill(`All of it, ${theme}`);
			await dialog.getByRole('button', { name: 'Save', exact: true }).click();
			await dialog.getByText(button === 'Save' ? 'Saved as' : 'There is a query of this name.').waitFor();
		}
		await dialog.getByRole('button', { name: /^Remove/ }).first().waitFor();
		assert.deepEqual(await violations(page), []);
		await page.keyboard.press('Escape');
		await page.getByRole('list', { name: 'Saved queries' }).getByRole('link').first().waitFor();
		assert.deepEqual(await violations(page), []);
		await page.keyboard.press('Control+k');
		await page.getByRole('listbox', { name: 'What fits' }).getByRole('option').first().waitFor();
		assert.deepEqual(await violations(page), []);
		await page.done();
	});

	test(`the help and an empty search, ${theme}`, async () => {
		const page = await openPage(session, '/?service=no-such-service-anywhere', { theme });
		await page.getByRole('heading', { name: 'No trace matches' }).waitFor();
		assert.deepEqual(await violations(page), []);
		await page.keyboard.press('?');
		await page.getByRole('dialog').waitFor();
		assert.deepEqual(await violations(page), []);
		await page.done();
	});
}

test('the theme is chosen and kept', async () => {
	const page = await openPage(session, '/', { theme: 'dark' });
	const toggle = page.getByRole('button', { name: /^Theme: system/ });
	await toggle.click();
	await page.getByRole('button', { name: /^Theme: light/ }).waitFor();
	assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'light');
	await page.reload();
	await page.getByRole('button', { name: /^Theme: light/ }).waitFor();
	assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'light');
	await page.done();
});
