/** An empty house: what to do, in several languages, and that the page notices the first span. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { launch } from './browser.mjs';
import { openPage } from './session.mjs';
import { startMock } from '../mock/server.mjs';

/** Address and port of OTLP over HTTP of a server without spans, at `TRACEHOUSE_URL`. */
const otlp = process.env.TRACEHOUSE_OTLP_HTTP;
const url = process.env.TRACEHOUSE_URL;

let session;
let mock;
before(async () => {
	mock = otlp ? null : await startMock({ empty: true });
	session = { url: mock?.url ?? url, browser: await launch() };
});
after(async () => {
	await session.browser.close();
	mock?.server.close();
	mock?.server.closeAllConnections();
});

test('every language tells where to send', async () => {
	const page = await openPage(session, '/');
	const tabs = page.getByRole('tablist', { name: 'Language' }).getByRole('tab');
	await tabs.first().waitFor();
	assert.ok((await tabs.count()) >= 6);
	await tabs.first().focus();
	for (let index = 0; index < (await tabs.count()); index += 1) {
		assert.equal(await tabs.nth(index).getAttribute('aria-selected'), 'true');
		assert.match(await page.getByRole('tabpanel').innerText(), /http:\/\/127\.0\.0\.1:4318/);
		await page.keyboard.press('ArrowRight');
	}
	await page.done();
});

test('a span that is sent as the page says is shown without a touch', { skip: !otlp && 'needs a server' }, async () => {
	const page = await openPage(session, '/');
	await page.getByRole('tab', { name: 'curl' }).click();
	const said = await page.getByRole('tabpanel').locator('pre').innerText();
	execFileSync('bash', ['-ec', said.replace('127.0.0.1:4318', otlp)]);
	const row = page.getByRole('table', { name: 'Traces found' }).locator('tbody').getByRole('link', { name: /hello/ });
	await row.first().waitFor();
	await page.done();
});
