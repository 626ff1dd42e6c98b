/** What goes along in the address: the time that is shown, whose spans, and the way back. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { findTracePath, openPage, startSession, waitForAddress } from './session.mjs';

let session;
before(async () => (session = await startSession()));
after(() => session.stop());

const found = (page) => page.getByRole('table', { name: 'Traces found' }).locator('tbody').getByRole('link');
const details = (page) => page.getByRole('complementary', { name: 'Span details' });
const saysOf = (page, name) => new URL(page.url()).searchParams.get(name);

test('the range goes along from page to page, and back', async () => {
	const page = await openPage(session, '/?range=24h');
	const nav = page.getByRole('navigation', { name: 'Pages' });
	await found(page).first().click();
	await page.getByRole('treegrid').waitFor();
	assert.equal(saysOf(page, 'range'), '24h');
	await nav.getByRole('link', { name: 'Query' }).click();
	await waitForAddress(page, /\/query\?range=24h$/);
	await page.getByRole('link', { name: /Slow|Errors|Rate/i }).first().click();
	await waitForAddress(page, /\/query\?q=.*range=24h/);
	await page.keyboard.press('Escape');
	await page.keyboard.press('g');
	await page.keyboard.press('s');
	await waitForAddress(page, /\/\?range=24h$/);
	assert.equal(await page.getByRole('button', { name: 'Last 24h' }).getAttribute('aria-pressed'), 'true');
	await page.done();
});

test('every request names the tenant of the address, and links keep it', async () => {
	const tenants = new Set();
	const page = await openPage(session, '/?tenant=default', {
		prepare: (page) =>
			page.on('request', (request) => {
				if (new URL(request.url()).pathname.startsWith('/api/')) tenants.add(request.headers()['x-scope-orgid'] ?? null);
			})
	});
	await page.getByRole('button', { name: 'Tenant: default', exact: true }).waitFor();
	await page.getByRole('combobox', { name: 'Service' }).click();
	await page.getByRole('option').first().waitFor();
	await page.keyboard.press('Escape');
	await found(page).first().click();
	await page.getByRole('treegrid').locator('[role="row"][aria-level]').first().click();
	await details(page).getByRole('table', { name: 'Resource attributes' }).waitFor();
	await waitForAddress(page, /span=/);
	assert.equal(saysOf(page, 'tenant'), 'default');
	await page.getByRole('link', { name: 'Query', exact: true }).click();
	await page.getByRole('heading', { name: 'Begin with an example' }).waitFor();
	assert.deepEqual([...tenants], ['default']);
	await page.done();
});

test('a tenant that cannot be is told as such', async () => {
	const page = await openPage(session, `/?tenant=${encodeURIComponent('rød')}`);
	await page.getByRole('alert').filter({ hasText: 'There is no such tenant' }).waitFor();
	await page.done();
});

test('Back closes what a link opened, and opens what it closed', async () => {
	const { path, trace } = await findTracePath(session);
	const { spans } = await (await fetch(`${session.url}/api/v1/traces/${trace.traceId}`)).json();
	const [first, other] = spans.id;
	const link = { traceId: trace.traceId, spanId: other, traceState: '', flags: 0, attributes: [], droppedAttributesCount: 0 };
	const page = await openPage(session, path, {
		prepare: (page) =>
			page.route(/\/spans\//, async (route) => {
				const answer = await (await route.fetch()).json();
				await route.fulfill({ json: { ...answer, links: [link] } });
			})
	});
	const selected = page.locator(`[role="row"][aria-selected="true"][data-node]`);
	await page.getByRole('treegrid').waitFor();
	await page.getByRole('treegrid').locator('[data-node="0"]').click();
	await waitForAddress(page, new RegExp(`span=${first}`));
	await details(page).getByRole('link', { name: /This trace/ }).click();
	await waitForAddress(page, new RegExp(`span=${other}`));
	assert.equal(await selected.getAttribute('data-node'), '1');
	await page.goBack();
	await waitForAddress(page, new RegExp(`span=${first}`));
	await page.locator('[data-node="0"][aria-selected="true"]').waitFor();
	await page.goForward();
	await page.locator('[data-node="1"][aria-selected="true"]').waitFor();
	// A link from outside, and back from it to where nothing was open.
	await page.getByRole('button', { name: 'Close details' }).click();
	await waitForAddress(page, (url) => !url.includes('span='));
	await page.evaluate((href) => {
		const anchor = Object.assign(document.createElement('a'), { href, textContent: 'open' });
		document.querySelector('main').append(anchor);
		anchor.click();
		anchor.remove();
	}, `${path}?span=${first}&zoom=0-1000&find=${first}`);
	await details(page).waitFor();
	await page.goBack();
	await details(page).waitFor({ state: 'detached' });
	await page.waitForTimeout(600);
	assert.doesNotMatch(page.url(), /span=|zoom=|find=/);
	await page.done();
});

test('what was zoomed into can be zoomed out of', async () => {
	const page = await openPage(session, '/?range=6h&plot=traces');
	const plot = page.getByRole('img', { name: /traces? by start and duration/ });
	await plot.waitFor();
	const box = await plot.boundingBox();
	await page.mouse.move(box.x + box.width * 0.3, box.y + 20);
	await page.mouse.down();
	await page.mouse.move(box.x + box.width * 0.95, box.y + box.height - 30, { steps: 4 });
	await page.mouse.up();
	await waitForAddress(page, /start=.*from=6h/);
	await page.getByRole('button', { name: 'Zoom out to last 6h' }).click();
	await waitForAddress(page, (url) => !url.includes('start=') && !url.includes('from='));
	assert.equal(saysOf(page, 'range'), '6h');
	await page.done();
});

test('a link can be copied as it is, or with its ends fixed', async () => {
	const page = await openPage(session, '/?range=6h&live=1', {
		prepare: (page) => page.context().grantPermissions(['clipboard-read', 'clipboard-write'])
	});
	await found(page).first().waitFor();
	const copied = async (name) => {
		const button = page.getByRole('button', { name, exact: true });
		await button.click();
		// It says "Copied" then.
		await button.waitFor({ state: 'detached' });
		return new URL(await page.evaluate(() => navigator.clipboard.readText())).searchParams;
	};
	await page.getByRole('button', { name: 'Custom time range' }).click();
	assert.equal((await copied('Copy link')).toString(), 'range=6h&live=1');
	const fixed = await copied('Copy link with fixed times');
	assert.deepEqual([...fixed.keys()].sort(), ['at', 'range']);
	assert.ok(Math.abs(Date.parse(fixed.get('at')) - Date.now()) < 60_000);
	const asked = page.waitForRequest(/\/search\?/);
	await page.goto(`${session.url}/?${fixed}`);
	const { searchParams } = new URL((await asked).url());
	assert.equal(searchParams.get('end'), fixed.get('at'));
	assert.equal(Date.parse(searchParams.get('end')) - Date.parse(searchParams.get('start')), 6 * 3_600_000);
	await page.getByRole('button', { name: /^as of/ }).click();
	await waitForAddress(page, /\?range=6h$/);
	await page.done();
});
