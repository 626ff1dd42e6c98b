/** When pages ask the server: when they are seen, as long as they are open, and never for what nobody wants any more. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { findTracePath, openPage, startSession, waitForAddress } from './session.mjs';

let session;
before(async () => (session = await startSession()));
after(() => session.stop());

/** Live searches come this often, the status too. */
const ROUND_MILLIS = 5_000;

/** A page in a background tab; `show` brings it to the front. */
async function inBackground(page) {
	await page.addInitScript(() => {
		window.isHidden = true;
		Object.defineProperty(document, 'hidden', { get: () => window.isHidden });
		Object.defineProperty(document, 'visibilityState', { get: () => (window.isHidden ? 'hidden' : 'visible') });
	});
	page.show = (visible) =>
		page.evaluate((now) => {
			window.isHidden = !now;
			document.dispatchEvent(new Event('visibilitychange'));
		}, visible);
}

/** Time stands still on the page unless the test has it pass. */
async function stopClock(page) {
	const now = Date.now();
	// Until it is stopped the clock runs, and it cannot be stopped in the past.
	await page.clock.install({ time: now - 60_000 });
	await page.clock.pauseAt(now);
}

/** Notes what a page asks, by the last part of the path and its parameters. */
function noteAsked(page) {
	page.asked = [];
	page.awaited = new Set();
	page.on('request', (request) => {
		const { pathname, searchParams } = new URL(request.url());
		if (!pathname.startsWith('/api/')) return;
		page.asked.push({ path: pathname.slice('/api/v1/'.length), query: searchParams });
		page.awaited.add(request);
	});
	for (const end of ['requestfinished', 'requestfailed']) page.on(end, (request) => page.awaited.delete(request));
	page.count = async (path, accept = () => true) => {
		await roundTrip(page);
		return page.asked.filter((one) => one.path === path && accept(one.query)).length;
	};
}

/** What the page asked before this has been noted after it: requests are told of in their order, but later than made. */
const roundTrip = (page) => page.evaluate(() => fetch('/favicon.svg').then((response) => response.text()));

const firstLink = (page) => page.getByRole('table', { name: 'Traces found' }).locator('tbody').getByRole('link').first();

async function openHidden(path) {
	return openPage(session, path, {
		prepare: async (page) => {
			noteAsked(page);
			await inBackground(page);
		}
	});
}

test('a search in a background tab is asked when the tab is seen, once', async () => {
	const page = await openHidden('/?service=cart');
	await page.getByText('Searching…').waitFor();
	await roundTrip(page);
	assert.deepEqual(page.asked, []);
	await page.show(true);
	await firstLink(page).waitFor();
	assert.equal(await page.count('search'), 1);
	assert.equal(await page.count('status'), 1);
	await page.done();
});

test('a query in a background tab is asked when the tab is seen, once', async () => {
	const page = await openHidden(`/query?q=${encodeURIComponent('{ } | rate()')}`);
	await page.getByText('Running…').waitFor();
	assert.equal(await page.count('metrics'), 0);
	await page.show(true);
	await page.getByRole('table', { name: /^Series/ }).waitFor();
	assert.equal(await page.count('metrics'), 1);
	await page.done();
});

test('a trace in a background tab is there when the tab is seen, and its details too', async () => {
	const { path, trace } = await findTracePath(session);
	const compact = await (await fetch(`${session.url}/api/v1/traces/${trace.traceId}`)).json();
	const page = await openHidden(`${path}?span=${compact.spans.id[0]}`);
	await page.getByRole('treegrid').waitFor();
	assert.match(await page.title(), new RegExp(trace.rootServiceName));
	await page.show(true);
	await page.getByRole('table', { name: 'Resource attributes' }).waitFor();
	await page.done();
});

test('a live search rests in the background and goes on in sight', async () => {
	const page = await openPage(session, '/?live=1', {
		prepare: async (page) => {
			noteAsked(page);
			await stopClock(page);
			await inBackground(page);
		}
	});
	await page.show(true);
	await firstLink(page).waitFor();
	await page.show(false);
	await page.clock.runFor(12 * ROUND_MILLIS);
	assert.equal(await page.count('search'), 1);
	const again = page.waitForResponse(/\/search\?/);
	await page.show(true);
	await again;
	assert.equal(await page.count('search'), 2);
	await page.done();
});

/** Lets the answers come that are on their way, and the page take them. */
async function settle(page) {
	let noted;
	do {
		await roundTrip(page);
		noted = page.asked.length;
		while (page.awaited.size > 0) await page.waitForTimeout(10);
		await roundTrip(page);
		await roundTrip(page);
	} while (page.asked.length > noted);
}

/** Lets so many rounds pass, each with the answers it asked for. */
async function pass(page, rounds) {
	await settle(page);
	for (let round = 0; round < rounds; round += 1) {
		await page.clock.runFor(ROUND_MILLIS);
		await settle(page);
	}
}

/** A link is followed when the next picture is drawn, for which time has to pass. */
async function follow(page, link) {
	await link.click();
	await page.clock.runFor(200);
}

const isOf = (service) => (query) => query.get('service') === service;

async function openLive(path) {
	const page = await openPage(session, path, {
		prepare: async (page) => {
			noteAsked(page);
			await stopClock(page);
		}
	});
	await firstLink(page).waitFor();
	return page;
}

/** Has the answers of one search wait until they are let go. */
async function hold(page, service) {
	const held = [];
	await page.route(
		(url) => url.pathname.endsWith('/search') && url.searchParams.get('service') === service,
		(route) => held.push(route)
	);
	return {
		held,
		waiting: async () => {
			while (held.length === 0) await page.waitForTimeout(20);
		},
		letGo: async () => {
			for (const route of held.splice(0)) await route.continue().catch(() => undefined);
		}
	};
}

test('a live search that is left while its answer is awaited is asked no more', async () => {
	const page = await openLive('/?service=cart&live=1');
	const { waiting, letGo } = await hold(page, 'cart');
	await page.clock.runFor(ROUND_MILLIS);
	await waiting();
	await follow(page, page.getByRole('link', { name: 'Query', exact: true }));
	await page.getByRole('heading', { name: 'Begin with an example' }).waitFor();
	const asked = await page.count('search');
	await letGo();
	await pass(page, 4);
	assert.equal(await page.count('search'), asked);
	await page.done();
});

test('a live search that changes while its answer is awaited is asked no more, and its answer is not shown', async () => {
	const page = await openLive('/?service=cart&live=1');
	const { waiting, letGo } = await hold(page, 'cart');
	await page.clock.runFor(ROUND_MILLIS);
	await waiting();
	const service = page.getByRole('combobox', { name: 'Service' });
	await service.fill('search');
	await service.press('Enter');
	await waitForAddress(page, /service=search/);
	await page.getByRole('row').filter({ hasText: 'search' }).first().waitFor();
	const ofOld = await page.count('search', isOf('cart'));
	const shown = await firstLink(page).getAttribute('href');
	await letGo();
	const before = await page.count('search', isOf('search'));
	await pass(page, 3);
	assert.equal(await page.count('search', isOf('cart')), ofOld);
	assert.equal(await page.count('search', isOf('search')), before + 3);
	assert.equal(await firstLink(page).getAttribute('href'), shown);
	await page.done();
});

test('live that is switched off, and a search asked again by hand, leave one asking at most', async () => {
	const page = await openLive('/?live=1');
	await page.keyboard.press('r');
	await page.keyboard.press('r');
	const before = await page.count('search');
	await pass(page, 3);
	assert.equal(await page.count('search'), before + 3);
	await page.getByRole('button', { name: 'Live' }).click();
	await waitForAddress(page, (url) => !url.includes('live='));
	const off = await page.count('search');
	await pass(page, 3);
	assert.ok(await page.count('search') <= off + 1);
	await page.done();
});

test('a trace page asks no search, and a left query page no query', async () => {
	const page = await openLive('/?live=1');
	await follow(page, firstLink(page));
	await page.getByRole('treegrid').waitFor();
	const asked = await page.count('search');
	await pass(page, 3);
	assert.equal(await page.count('search'), asked);
	await page.done();
});

test('an error stands beside the last answer, and goes with the next one by itself', async () => {
	let isDown = false;
	const page = await openPage(session, '/?live=1', {
		expectFailures: true,
		prepare: async (page) => {
			noteAsked(page);
			await stopClock(page);
			await page.route(/\/search\?/, (route) =>
				isDown ? route.fulfill({ status: 503, headers: { 'retry-after': '7' }, json: { title: 'Too many questions' } }) : route.continue()
			);
		}
	});
	await firstLink(page).waitFor();
	isDown = true;
	await pass(page, 1);
	const alert = page.getByRole('alert').filter({ hasText: 'Too many questions' });
	await alert.waitFor();
	assert.equal(await firstLink(page).count(), 1);
	const asked = await page.count('search');
	isDown = false;
	await pass(page, 1);
	assert.equal(await page.count('search'), asked);
	await pass(page, 1);
	await alert.waitFor({ state: 'detached' });
	assert.equal(await firstLink(page).count(), 1);
	await page.done();
});
