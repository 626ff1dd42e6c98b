/**
 * Measures what `docs/benchmarks.md` says of the web interface: `node scripts/measure.mjs URL OTLP_HTTP_URL [row…]`, where a server runs
 * that may be filled. Rows: `giants` (until they can be used, frames, finds), `tail` (from the acknowledgement to the screen at 20,000
 * spans/s, which something else sends), `memory` (eight hours of live pages by a simulated clock).
 */
import { launch } from '../e2e/browser.mjs';

const [url, otlp, ...wanted] = process.argv.slice(2);
const isWanted = (row) => wanted.length === 0 || wanted.includes(row);
const browser = await launch();
const told = (what, figure) => process.stdout.write(`${what}: ${figure}\n`);
const hex = (number, digits) => number.toString(16).padStart(digits, '0');
const share = (sorted, part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
const sortedNumbers = (numbers) => [...numbers].sort((a, b) => a - b);

async function send(spans, service) {
	const body = { resourceSpans: [{ resource: { attributes: [{ key: 'service.name', value: { stringValue: service } }] }, scopeSpans: [{ spans }] }] };
	const response = await fetch(`${otlp}/v1/traces`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
	if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
}

/** A trace of so many spans, ten children under each. */
async function sendGiant(spanCount, salt) {
	const traceId = hex(BigInt(salt) * 0x1_0000_0000n + BigInt(spanCount), 32);
	const begin = BigInt(Date.now() - 600_000) * 1_000_000n;
	for (let first = 0; first < spanCount; first += 10_000) {
		const spans = [];
		for (let number = first; number < Math.min(spanCount, first + 10_000); number += 1) {
			const start = begin + BigInt(number) * 2_000n;
			spans.push({
				traceId,
				spanId: hex(number + 1, 16),
				parentSpanId: number === 0 ? '' : hex(Math.floor((number - 1) / 10) + 1, 16),
				name: `${['load', 'bill customer', 'price', 'store'][number % 4]} ${number % 50}`,
				kind: 1 + (number % 5),
				startTimeUnixNano: String(start),
				endTimeUnixNano: String(start + BigInt(number === 0 ? spanCount * 2_000 : 1_000 + (number % 977) * 1_000)),
				status: number % 997 === 5 ? { code: 2 } : {}
			});
		}
		await send(spans, `service ${(first / 10_000) % 12}`);
	}
	return traceId;
}

const rows = (page) => page.locator('[role="treegrid"] [role="row"][aria-level]');

async function framesOf(page, move) {
	const frames = await page.evaluate(async (text) => {
		const step = new Function('grid', 'frame', text);
		const grid = document.querySelector('[role="treegrid"]');
		const times = [];
		for (let frame = 0; frame < 120; frame += 1) {
			step(grid, frame);
			times.push(await new Promise(requestAnimationFrame));
		}
		return times.slice(1).map((time, index) => time - times[index]);
	}, move);
	const sorted = sortedNumbers(frames);
	return `median ${share(sorted, 0.5).toFixed(1)} ms, p95 ${share(sorted, 0.95).toFixed(1)} ms`;
}

async function giants() {
	for (const spanCount of [10_000, 100_000, 500_000]) {
		const traceId = await sendGiant(spanCount, Date.now());
		const ready = [];
		for (let attempt = 0; attempt < 3; attempt += 1) {
			const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
			await page.goto(`${url}/trace/${traceId}`);
			await rows(page).nth(10).waitFor({ timeout: 60_000 });
			ready.push(await page.evaluate(() => performance.getEntriesByName('waterfall-shown')[0].startTime));
			if (attempt === 2) await scrollAndFind(page, spanCount);
			await page.close();
		}
		told(`${spanCount} spans, interactive`, ready.map((millis) => `${Math.round(millis)} ms`).join(', '));
	}
}

async function scrollAndFind(page, spanCount) {
	told(`${spanCount} spans, scrolling`, await framesOf(page, 'grid.scrollTop += 400'));
	await page.getByRole('treegrid').focus();
	const zoom = `document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: frame % 20 < 10 ? ']' : '[', bubbles: true }))`;
	told(`${spanCount} spans, zooming`, await framesOf(page, zoom));
	await page.getByLabel('Find spans').fill('load 2');
	await page.getByRole('search', { name: 'In this trace' }).getByRole('status').filter({ hasText: /of [\d,]+/ }).waitFor();
	const millis = await page.evaluate(async () => {
		const field = document.getElementById('find-spans');
		const count = field.parentElement.querySelector('[role="status"]');
		const find = (text) =>
			new Promise((resolve, reject) => {
				setTimeout(() => reject(new Error(`nothing came of ${text}`)), 5_000);
				const begun = performance.now();
				const seen = new MutationObserver(() => {
					if (!/of [\d,]+/.test(count.textContent)) return;
					seen.disconnect();
					resolve(performance.now() - begun);
				});
				seen.observe(count, { childList: true, subtree: true, characterData: true });
				field.value = text;
				field.dispatchEvent(new Event('input', { bubbles: true }));
			});
		const times = [];
		for (const text of ['bill', 'price 3', 'store', 'load 1', 'load', 'price 2']) {
			times.push(await find(text));
			await new Promise((resolve) => setTimeout(resolve, 300));
		}
		return times;
	});
	told(`${spanCount} spans, finding`, millis.map((each) => `${each.toFixed(0)} ms`).join(', '));
}

/** Spans of which each names when it was acknowledged by its number; the page notes when it first shows it. */
async function tail() {
	const MARKS = 60;
	const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
	await page.addInitScript(() => {
		window.shownAt = {};
		new MutationObserver(() => {
			for (const row of document.querySelectorAll('a[data-trace]')) window.shownAt[row.dataset.trace] ??= Date.now();
		}).observe(document, { childList: true, subtree: true });
	});
	await page.goto(`${url}/?view=tail&rate=200&q=${encodeURIComponent('{ resource.service.name = "marker" }')}`);
	await page.getByText(/ since \d/).waitFor();
	const all = await browser.newPage({ viewport: { width: 1440, height: 900 } });
	await all.goto(`${url}/?view=tail&rate=40`);
	const acknowledged = {};
	for (let number = 0; number < MARKS; number += 1) {
		const traceId = hex(BigInt(Date.now()) * 1000n + BigInt(number), 32);
		const start = BigInt(Date.now()) * 1_000_000n;
		await send([{ traceId, spanId: hex(number + 1, 16), name: 'mark', kind: 2, startTimeUnixNano: String(start - 1_000_000n), endTimeUnixNano: String(start) }], 'marker');
		acknowledged[traceId] = Date.now();
		await new Promise((resolve) => setTimeout(resolve, 137 + (number % 7) * 50));
	}
	await page.waitForTimeout(3_000);
	const shownAt = await page.evaluate(() => window.shownAt);
	const took = Object.entries(acknowledged).map(([traceId, millis]) => (shownAt[traceId] ?? Infinity) - millis);
	const sorted = sortedNumbers(took);
	told('live tail, acknowledgement to screen', `p50 ${share(sorted, 0.5)} ms, p95 ${share(sorted, 0.95)} ms, most ${sorted.at(-1)} ms, of ${MARKS}`);
	told('beside it a tail of everything', (await all.locator('.bar .counts').innerText()).replaceAll('\n', ' '));
	await page.close();
	await all.close();
}

/** The heap after a collection, in MiB. */
async function heapOf(page) {
	const session = await page.context().newCDPSession(page);
	await session.send('HeapProfiler.collectGarbage');
	await session.send('HeapProfiler.collectGarbage');
	const { usedSize } = await session.send('Runtime.getHeapUsage');
	const { nodes } = await session.send('Memory.getDOMCounters');
	await session.detach();
	return { mebibytes: usedSize / 2 ** 20, nodes };
}

/** Answers as the server gave them the first time, within the page, so that hours pass quickly; a tail gets other traces each time. */
function answerQuickly() {
	const [fetchOf, kept] = [window.fetch, new Map()];
	window.answers = {};
	const hex = (number, digits) => number.toString(16).padStart(digits, '0');
	const tailOf = (number, limit) => {
		const trace = (place) => ({ traceId: hex(number * 100 + place, 32), rootServiceName: `service ${place}`, rootSpanName: `work ${number}`, startTimeUnixNano: '1700000000000000000', durationNanos: 1e6 * (1 + (number % 99)), spanCount: 9, errorCount: number % 7 === 0 ? 1 : 0, rootMissing: false, services: [{ name: 'cart', spanCount: 9, errorCount: 0 }], matchedCount: 1, spansets: [] });
		const traces = Array.from({ length: limit }, (_, place) => trace(place));
		return JSON.stringify({ traces, tracesMatched: 100, tracesBegun: 100, spansArrived: 900, position: String(number), complete: true, partialReason: null, elapsedNanos: 1 });
	};
	window.fetch = async (asked, options) => {
		const url = new URL(asked instanceof Request ? asked.url : asked, location.href);
		const path = /\/api\/v1(\/.*)/.exec(url.pathname)?.[1];
		if (!path) return fetchOf(asked, options);
		const number = (window.answers[path] = (window.answers[path] ?? 0) + 1);
		const answered = (body) => new Response(body, { headers: { 'content-type': 'application/json' } });
		if (path === '/tail') return answered(tailOf(number, Number(url.searchParams.get('limit'))));
		const key = `${path} ${url.searchParams.get('q')}`;
		if (!kept.has(key)) kept.set(key, await (await fetchOf(asked, options)).text());
		return answered(kept.get(key));
	};
}

async function memory() {
	const HOURS = 8;
	for (const [name, path, of, everySeconds] of [
		['live search', '/?live=1&range=1h', '/search', 5],
		['live query', `/query?live=1&range=1h&q=${encodeURIComponent('{ } | rate() by (resource.service.name)')}`, '/metrics', 5],
		['live tail', '/?view=tail&rate=10', '/tail', 0.5]
	]) {
		if (wanted.includes('memory') && wanted.length > 1 && !wanted.includes(name)) continue;
		const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
		await page.addInitScript(answerQuickly);
		await page.clock.install({ time: new Date() });
		await page.goto(url + path);
		await page.locator('main a, main canvas').first().waitFor({ timeout: 60_000 });
		const figures = [];
		for (let hour = 0; hour <= HOURS; hour += 1) {
			// Not so long at once that an answer would be overtaken by the next look.
			const [turns, seconds] = hour === 0 ? [30, everySeconds] : [3_600 / (4 * everySeconds), 4 * everySeconds];
			for (let turn = 0; turn < turns; turn += 1) await page.clock.runFor(seconds * 1000);
			figures.push(await heapOf(page));
		}
		const answers = await page.evaluate((path) => window.answers[path], of);
		const grown = figures.at(-1).mebibytes / figures[1].mebibytes - 1;
		told(
			`${name}, ${HOURS} h by its clock, ${answers} answers`,
			`${figures.map(({ mebibytes }) => mebibytes.toFixed(1)).join(', ')} MiB, ${(grown * 100).toFixed(1)} % after the first hour; ${figures.map(({ nodes }) => nodes).join(', ')} nodes`
		);
		await page.close();
	}
}

if (isWanted('giants')) await giants();
if (isWanted('tail')) await tail();
if (isWanted('memory')) await memory();
await browser.close();
