/** The live tail: what comes is listed, held while somebody reads, and goes on by itself. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openPage, startSession, waitForAddress } from './session.mjs';

let session;
before(async () => (session = await startSession()));
after(() => session.stop());

const TAIL = /\/api\/v1\/tail\?/;
const links = (page) => page.locator('a[data-trace]');

/** Answers each look with what `came(number)` says, newest first; `looks` are the parameters of all that were asked. */
async function scripted(page, came, looks = []) {
	await page.route(TAIL, async (route) => {
		looks.push(new URL(route.request().url()).searchParams);
		const number = looks.length - 1;
		const said = number === 0 ? [] : came(number);
		if (said === null) return route.abort();
		const { ids, matched = ids.length, reason = null } = Array.isArray(said) ? { ids: said } : said;
		const traces = ids.map((id) => ({
			traceId: id.toString(16).padStart(32, '0'),
			rootServiceName: 'cart',
			rootSpanName: `trace ${id}`,
			startTimeUnixNano: `${Date.now()}000000`,
			durationNanos: 1_000_000 * (1 + (id % 50)),
			spanCount: 1 + number,
			errorCount: id % 5 === 0 ? 1 : 0,
			rootMissing: false,
			services: [{ name: 'cart', spanCount: 1, errorCount: 0 }],
			matchedCount: 1,
			spansets: []
		}));
		const answer = { traces, tracesMatched: matched, tracesBegun: matched, spansArrived: 10 * matched, position: String(100 + number), complete: reason === null, partialReason: reason, elapsedNanos: 1 };
		await route.fulfill({ json: answer });
	});
	return looks;
}

const open = (came, path = '/?view=tail', looks = [], options = {}) =>
	openPage(session, path, { ...options, prepare: (page) => scripted(page, came, looks) });

test('traces are listed as they come, each look from where the last one ended', async () => {
	const looks = [];
	const page = await open((number) => [number], '/?view=tail&service=cart&attr=a%3D1&rate=40&range=6h', looks);
	await links(page).nth(2).waitFor();
	const names = await links(page).allInnerTexts();
	const numbers = names.map((name) => Number(/trace (\d+)/.exec(name)[1]));
	assert.deepEqual(numbers, [...numbers].sort((a, b) => b - a), 'the last that came is first');
	const [first, second, third] = looks.map((look) => Object.fromEntries(look));
	assert.deepEqual(first, { service: 'cart', attr: 'a=1', limit: '40', spans: '1', targets: 'true' }, 'whenever it began');
	assert.deepEqual([second.after, third.after], ['100', '101']);
	await page.done();
});

test('a trace of which more spans come stays where it is', async () => {
	const page = await open((number) => (number === 1 ? [2, 1] : number === 4 ? [3, 1] : []));
	await links(page).nth(2).waitFor();
	assert.deepEqual(await links(page).allInnerTexts().then((texts) => texts.map((text) => /trace \d+/.exec(text)[0])), ['trace 3', 'trace 2', 'trace 1']);
	assert.equal(await page.getByRole('row', { name: /trace 1/ }).locator('td.spans').innerText(), '5');
	await page.done();
});

test('what comes while it is paused is held, and shown at once', async () => {
	const page = await open((number) => [number]);
	await links(page).nth(1).waitFor();
	await page.keyboard.press('p');
	await page.getByText('Paused', { exact: true }).waitFor();
	const listed = await links(page).count();
	const held = page.getByRole('button', { name: /^Show [3-9] that came$/ });
	await held.waitFor();
	assert.equal(await links(page).count(), listed);
	await held.click();
	await page.waitForFunction((count) => document.querySelectorAll('a[data-trace]').length >= count + 3, listed);
	await page.getByText('Paused', { exact: true }).waitFor();
	await page.getByRole('button', { name: 'Go on' }).click();
	await page.getByText('Following', { exact: true }).waitFor();
	await page.done();
});

test('whoever reads further down is not pushed away', async () => {
	const page = await open((number) => (number === 1 ? Array.from({ length: 60 }, (_, id) => 1000 + id) : [number]));
	await links(page).nth(50).waitFor();
	await page.mouse.wheel(0, 900);
	await page.getByText('Held while you read').waitFor();
	const place = async () => (await page.getByRole('row', { name: /trace 1040/ }).boundingBox()).y;
	const before = await place();
	await page.getByRole('button', { name: /^Show [2-9] that came$/ }).waitFor();
	assert.equal(await place(), before);
	await page.getByRole('button', { name: /that came$/ }).click();
	await page.getByText('Following', { exact: true }).waitFor();
	assert.equal(await page.evaluate(() => window.scrollY), 0);
	await page.done();
});

test('what is not listed is counted, and a reason is said', async () => {
	const page = await open((number) => ({ ids: [number], matched: 40, reason: number > 2 ? 'spans went to files before they were looked at' : null }));
	await page.getByText(/^\s*[2-9] of \d+0 listed/).first().waitFor();
	await page.getByText('Partial: spans went to files before they were looked at').waitFor();
	await page.getByLabel('At most').selectOption('200');
	await waitForAddress(page, /rate=200/);
	await page.done();
});

test('a server that is away is asked again from the same position', async () => {
	const looks = [];
	const page = await open((number) => (number >= 3 && number <= 4 ? null : [number]), '/?view=tail', looks, { expectFailures: true });
	await page.getByRole('main').getByRole('alert').waitFor();
	await page.getByRole('row', { name: /trace 5/ }).waitFor();
	await page.getByRole('main').getByRole('alert').waitFor({ state: 'detached' });
	assert.deepEqual(looks.slice(3, 6).map((look) => look.get('after')), ['102', '102', '102']);
	await page.done();
});

test('another question begins anew, and no more is asked after leaving', async () => {
	const looks = [];
	const page = await open((number) => [number], '/?view=tail', looks);
	await links(page).nth(1).waitFor();
	await page.getByLabel('Status').selectOption('error');
	await waitForAddress(page, /status=error/);
	await page.waitForFunction(() => document.querySelectorAll('a[data-trace]').length > 0);
	const begun = looks.findIndex((look) => look.get('status') === 'error');
	assert.equal(looks[begun].get('after'), null);
	await page.getByRole('link', { name: 'Search what is stored' }).click();
	await page.getByText(/spans inspected in/).waitFor();
	const count = looks.length;
	await page.getByRole('button', { name: 'Search again' }).click();
	await page.getByText(/spans inspected in/).waitFor();
	assert.equal(looks.length, count);
	await page.goBack();
	await page.getByText('Following', { exact: true }).waitFor();
	await page.done();
});

test('thousands of traces leave as few rows and nodes as hundreds', async () => {
	const page = await open((number) => Array.from({ length: 100 }, (_, id) => number * 100 + id), '/?view=tail&rate=200');
	const newest = (at) => page.waitForFunction((wanted) => Number(/trace (\d+)/.exec(document.querySelector('a[data-trace]')?.innerText)?.[1] ?? 0) >= wanted, at);
	await newest(800);
	const nodes = () => page.evaluate(() => document.querySelectorAll('*').length);
	const before = await nodes();
	await newest(1_600);
	assert.equal(await links(page).count(), 500);
	assert.ok(Math.abs((await nodes()) - before) < before * 0.02, `${before}, ${await nodes()}`);
	await page.getByText(/the newest 500 kept/).waitFor();
	await page.done();
});
