/** What stands around every page: keys that can be turned off, an upgrade that an open page notices. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openPage, removeSaved, startSession, waitForAddress } from './session.mjs';

let session;
before(async () => (session = await startSession()));
after(() => session.stop());

const found = (page) => page.getByRole('table', { name: 'Traces found' }).locator('tbody').getByRole('link');
const help = (page) => page.getByRole('dialog', { name: 'Keyboard' });

test('keys of one letter are turned off in the help, and stay off', async () => {
	const page = await openPage(session, '/');
	await found(page).first().waitFor();
	await page.keyboard.press('?');
	await help(page).getByText('Next trace, previous trace').waitFor();
	await help(page).getByRole('checkbox', { name: /Single letters/ }).uncheck();
	await help(page).getByText('Go to the search').waitFor({ state: 'hidden' });
	await page.keyboard.press('Escape');
	await page.reload();
	await found(page).first().waitFor();
	for (const key of ['g', 'q', '?', 'j']) await page.keyboard.press(key);
	assert.equal(await page.evaluate(() => document.activeElement === document.body), true);
	await page.keyboard.press('ArrowDown');
	assert.match(await page.evaluate(() => document.activeElement?.getAttribute('href')), /^\/trace\//);
	assert.equal(new URL(page.url()).pathname, '/');
	await page.getByRole('button', { name: 'Keyboard shortcuts' }).click();
	await help(page).getByRole('checkbox', { name: /Single letters/ }).check();
	await page.keyboard.press('Escape');
	await page.getByRole('button', { name: 'Keyboard shortcuts' }).blur();
	await page.keyboard.press('g');
	await page.keyboard.press('q');
	await waitForAddress(page, /\/query/);
	await page.done();
});

test('the palette finds services, operations and actions, also while something is typed', async () => {
	const page = await openPage(session, '/');
	await found(page).first().waitFor();
	const field = page.getByRole('combobox', { name: 'Go to, or do' });
	const first = page.getByRole('option', { selected: true });
	const { services } = await (await fetch(`${session.url}/api/v1/services`)).json();
	await page.getByRole('combobox', { name: 'Service' }).focus();
	await page.keyboard.press('Control+k');
	await field.fill(services[0].name);
	await first.getByText(services[0].name, { exact: true }).waitFor();
	await field.press('Enter');
	await waitForAddress(page, (url) => new URL(url).searchParams.get('service') === services[0].name);
	await page.keyboard.press('Control+k');
	await field.fill('theme');
	await first.getByText('Change the theme').waitFor();
	const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
	const before = await theme();
	while ((await theme()) === before) {
		// From the system's to the same by choice nothing is seen.
		await field.press('Enter');
		await field.waitFor({ state: 'hidden' });
		await page.keyboard.press('Control+k');
		await field.fill('theme');
	}
	await page.keyboard.press('Escape');
	await field.waitFor({ state: 'hidden' });
	await page.done();
});

test('what is typed before the palette is there is typed into it', async () => {
	const page = await openPage(session, '/');
	await found(page).first().waitFor();
	let letGo;
	const held = new Promise((resolve) => (letGo = resolve));
	await page.route(/_app\/immutable/, async (route) => {
		await held;
		await route.continue();
	});
	await page.keyboard.press('Control+k');
	// On the page behind it, S would open the saved queries.
	await page.keyboard.type('Show');
	letGo();
	const field = page.getByRole('combobox', { name: 'Go to, or do' });
	await field.waitFor();
	assert.equal(await field.inputValue(), 'Show');
	await page.getByRole('option', { selected: true }).getByText('Show this help').waitFor();
	await page.keyboard.type(' this');
	assert.equal(await field.inputValue(), 'Show this');
	await page.keyboard.press('Escape');
	await field.waitFor({ state: 'hidden' });
	await page.done();
});

test('a palette that is opened again as soon as it was left stays open', async () => {
	const page = await openPage(session, '/');
	await found(page).first().waitFor();
	const field = page.getByRole('combobox', { name: 'Go to, or do' });
	await page.keyboard.press('Control+k');
	await field.fill('theme');
	// Both keys in one task: what the browser tells of the first closing comes after the second opening.
	await field.evaluate((input) => {
		const press = (target, key) => target.dispatchEvent(new KeyboardEvent('keydown', { bubbles: true, cancelable: true, ...key }));
		press(input, { key: 'Enter' });
		press(document.body, { key: 'k', ctrlKey: true });
	});
	await page.waitForFunction(() => document.querySelector('dialog[open] input')?.value === '');
	await page.evaluate(() => new Promise((done) => setTimeout(() => requestAnimationFrame(done))));
	assert.ok(await field.isVisible());
	await page.keyboard.press('Escape');
	await field.waitFor({ state: 'hidden' });
	await page.done();
});

test('a query is saved under a name, found again in rail and palette, replaced, removed and brought back', async () => {
	await removeSaved(session);
	const page = await openPage(session, '/query?q=%7Bstatus%3Derror%7D&range=6h', { expectFailures: true });
	const dialog = page.getByRole('dialog', { name: 'Saved queries' });
	const rail = page.getByRole('list', { name: 'Saved queries' });
	const name = dialog.getByRole('textbox', { name: 'Name of what this page shows' });
	await page.getByRole('button', { name: 'Saved', exact: true }).click();
	await dialog.getByText('Nothing is saved yet.').waitFor();
	await name.fill('What fails');
	await dialog.getByRole('textbox', { name: /What it is for/ }).fill('Look here first');
	await page.keyboard.press('Enter');
	await dialog.getByText('Saved as “What fails”.').waitFor();
	await page.keyboard.press('Escape');
	await rail.getByRole('link', { name: 'What fails' }).waitFor();

	await page.goto(`${session.url}/?service=${encodeURIComponent('<b>&')}`);
	await rail.getByRole('link', { name: 'What fails' }).waitFor();
	await page.keyboard.press('Shift+S');
	await name.fill('What fails');
	await dialog.getByRole('button', { name: 'Save', exact: true }).click();
	await dialog.getByText('There is a query of this name.').waitFor();
	await name.fill('<img src=x onerror=alert(1)> ' + 'long '.repeat(14));
	await dialog.getByRole('button', { name: 'Save', exact: true }).click();
	await dialog.getByText('Saved as').waitFor();
	await dialog.getByRole('button', { name: 'Remove What fails' }).click();
	await dialog.getByRole('link', { name: 'What fails' }).waitFor({ state: 'hidden' });
	await dialog.getByRole('button', { name: 'Undo' }).click();
	await dialog.getByRole('link', { name: 'What fails' }).waitFor();
	await page.keyboard.press('Escape');

	await page.keyboard.press('Control+k');
	await page.getByRole('combobox', { name: 'Go to, or do' }).fill('what fails');
	await page.getByRole('option', { selected: true }).getByText('Look here first').waitFor();
	await page.keyboard.press('Enter');
	await waitForAddress(page, (url) => /^\/query\?q=%7Bstatus%3Derror%7D&range=6h/.test(new URL(url).pathname + new URL(url).search));
	await page.done();
});

test('an open page notices that the server was upgraded, asks once, and its next link opens the new interface', async () => {
	let uptimeNanos = 9e12;
	let asked = 0;
	const page = await openPage(session, '/', {
		prepare: async (page) => {
			await page.route(/\/api\/v1\/status/, async (route) => {
				const status = await (await route.fetch()).json();
				await route.fulfill({ json: { ...status, uptimeNanos: (uptimeNanos += 5e9) } });
			});
			await page.route(/version\.json/, (route) => {
				asked += 1;
				return route.fulfill({ json: { version: 'another' } });
			});
		}
	});
	await found(page).first().waitFor();
	await page.waitForResponse(/\/status/);
	assert.equal(asked, 0);
	uptimeNanos = 0;
	await page.getByRole('button', { name: 'New version' }).waitFor();
	await page.waitForResponse(/\/status/);
	assert.equal(asked, 1);
	await page.evaluate(() => (window.isOld = true));
	await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Query' }).click();
	await page.getByRole('heading', { name: 'Begin with an example' }).waitFor();
	assert.equal(await page.evaluate(() => window.isOld), undefined);
	await page.done();
});

test('each page loads its own scripts at once, and no other page’s before it is shown', async () => {
	const scripts = [];
	const page = await openPage(session, '/trace/0123456789abcdef0123456789abcdef', {
		expectFailures: true,
		prepare: (page) => page.on('request', (request) => scripts.push(new URL(request.url()).pathname))
	});
	await page.getByRole('alert').waitFor();
	const first = scripts.filter((path) => /\/nodes\/\d/.test(path)).slice(0, 2);
	assert.deepEqual(first.map((path) => path.match(/nodes\/(\d+)/)[1]).sort(), ['0', '4']);
	await page.done();
});
