/** One browser and one server for a file of tests; every page watches its console. */
import assert from 'node:assert/strict';
import { launch, openServer } from './browser.mjs';

const TIMEOUT_MILLIS = 15_000;

export async function startSession() {
	const [server, browser] = await Promise.all([openServer(), launch()]);
	return {
		...server,
		browser,
		stop: async () => {
			await browser.close();
			server.stop();
		}
	};
}

/**
 * Opens a page of the interface. `done()` closes it and fails when anything was written to the console as an error;
 * `expectFailures` lets refused requests pass, for tests that provoke them, `expectErrors` any error that matches it.
 * `prepare` gets the page before its address is opened.
 */
export async function openPage(session, path, { theme = 'dark', width = 1440, expectFailures = false, expectErrors, prepare } = {}) {
	const context = await session.browser.newContext({ viewport: { width, height: 900 }, colorScheme: theme });
	const page = await context.newPage();
	page.setDefaultTimeout(TIMEOUT_MILLIS);
	const errors = [];
	page.on('pageerror', (error) => errors.push(String(error)));
	page.on('console', (message) => {
		if (message.type() !== 'error') return;
		if (expectFailures && /Failed to load resource/.test(message.text())) return;
		if (expectErrors?.test(message.text())) return;
		errors.push(message.text());
	});
	await page.addInitScript(() => {
		window.layoutShiftSum = 0;
		new PerformanceObserver((list) => {
			for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.layoutShiftSum += entry.value;
		}).observe({ type: 'layout-shift', buffered: true });
	});
	await prepare?.(page);
	await page.goto(session.url + path);
	// A page's own script may come after those of all pages.
	await page.locator('main > *').first().waitFor({ state: 'attached' });
	page.layoutShift = () => page.evaluate(() => window.layoutShiftSum);
	page.done = async () => {
		// What is still being rewritten is of no use.
		await page.unrouteAll({ behavior: 'ignoreErrors' });
		await context.close();
		assert.deepEqual(errors, []);
	};
	return page;
}

export async function waitForAddress(page, wanted) {
	const matches = typeof wanted === 'function' ? wanted : (url) => wanted.test(url);
	await page.waitForURL((url) => matches(url.href), { timeout: TIMEOUT_MILLIS });
}

/** Another test may have saved queries at the same server. */
export async function removeSaved(session) {
	const path = `${session.url}/api/v1/saved-queries`;
	const { queries } = await (await fetch(path)).json();
	for (const { name } of queries) await fetch(`${path}/${encodeURIComponent(name)}`, { method: 'DELETE' });
}

/** The address of the first trace in the list that `accept` takes (a row's text is given), or of the first one. */
export async function findTracePath(session, query = '') {
	const response = await fetch(`${session.url}/api/v1/search?limit=100${query}`);
	const { traces } = await response.json();
	assert.ok(traces.length > 0, `the server under test holds no trace for the search ${query}`);
	const fitting = traces.filter((trace) => trace.spanCount >= 5 && trace.spanCount < 1000);
	const trace = fitting[0] ?? traces[0];
	return { path: `/trace/${trace.traceId}`, trace };
}
