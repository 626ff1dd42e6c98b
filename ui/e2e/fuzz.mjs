/**
 * Whatever an address says and whatever is answered, no page is blank and none of its parts fails. `FUZZ_SEED=17` runs one seed alone,
 * `FUZZ_SEEDS=2000` more of them.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Random } from '../mock/random.mjs';
import { removeSaved, startSession } from './session.mjs';

const SEEDS = process.env.FUZZ_SEED ? [Number(process.env.FUZZ_SEED)] : Array.from({ length: Number(process.env.FUZZ_SEEDS ?? 60) }, (_, seed) => seed);
const PAGES_AT_ONCE = 3;
/** What the frame says is none of the page's own. */
const SHOWN_MIN = 3;

let session;
before(async () => {
	session = await startSession();
	for (const number of [1, 2, 3]) {
		const body = JSON.stringify({ description: `of ${number}`, address: '/query?q=%7B%7D' });
		await fetch(`${session.url}/api/v1/saved-queries/fuzz%20${number}`, { method: 'PUT', headers: { 'content-type': 'application/json' }, body });
	}
});
after(async () => {
	await removeSaved(session);
	await session.stop();
});

const TEXTS = ['', ' ', '0', '-1', '1', '%', '%00', 'null', '"', '{', '{ }', '{ status = error }', '{ } | rate() by (name)', '{ } | histogram_over_time(duration)', '{ } | compare({ status = error })', '<img src=x onerror=alert(1)>', '‮عربى', 'x'.repeat(3_000), '🚀'.repeat(40), '../../etc', 'a=b', 'resource.service.name', 'error', 'server', 'tail', 'traces', 'spans', '1h', '7d', 'all', '9999999999999999999', '1e308', 'NaN', '2026-01-01T00:00:00Z', '1970-01-01T00:00:00Z', '+275760-09-13T00:00:00.001Z', '0-0', '1-2-3-4', '10-5', '-duration', '1d/2d', '__proto__', 'constructor'];
const NAMES = ['service', 'operation', 'status', 'kind', 'minDuration', 'maxDuration', 'attr', 'q', 'range', 'start', 'end', 'from', 'at', 'tenant', 'live', 'limit', 'sort', 'plot', 'pick', 'by', 'view', 'rate', 'step', 'tab', 'span', 'find', 'zoom', '__proto__'];
const GOOD = ['range=24h', 'status=error&range=24h&sort=-duration', 'plot=traces&range=24h', 'view=tail', 'by=name', 'q=%7B%7D', 'q=%7B+%7D+%7C+rate()+by+(name)', 'q=%7B+%7D+%7C+histogram_over_time(duration)', 'q=%7B+%7D+%7C+compare(%7B+status+%3D+error+%7D)', 'q=%7B+status+%3D+error+%7D+%7C+by(name)&tab=spans', 'q=%7B%7D+%7C+count_over_time()+by+(name)&step=all', 'pick=0-9999999999999-0-99999999999&range=24h', 'find=a'];
const VALUES = [null, true, 0, -1, 0.5, 1e308, -1e308, 9_007_199_254_740_993, '', 'NaN', '-5', '1700000000000000000', '99999999999999999999999', [], {}, [[]], ...TEXTS];

function addressOf(one, chance) {
	const traces = session.traces.map(({ traceId }) => `/trace/${traceId}`);
	const path = one(['/', '/', '/query', '/query', one(traces.length > 0 ? traces.slice(0, 40) : ['/trace/1']), '/trace/%00', `/trace/${'f'.repeat(32)}`, '/nowhere']);
	// Half of them mean something, so that there is something to be drawn.
	const said = new URLSearchParams(chance(0.5) ? one(GOOD) : '');
	while (chance(said.size > 0 ? 0.2 : 0.75)) said.append(one(NAMES), one(TEXTS));
	return `${path}?${said}`;
}

/** An answer in which some things are others, are there twice, or are gone; or only its texts and numbers are others. */
function mutated(value, one, chance, share, leavesAlone) {
	const isLeaf = value === null || typeof value !== 'object';
	if (chance(share) && (isLeaf || !leavesAlone)) return one(VALUES);
	if (Array.isArray(value)) {
		const items = value.slice(0, 200).map((item) => mutated(item, one, chance, share, leavesAlone));
		return chance(share) ? [...items, ...items] : items;
	}
	if (isLeaf) return value;
	const fields = Object.entries(value).filter(() => leavesAlone || !chance(share));
	return Object.fromEntries(fields.map(([name, field]) => [name, mutated(field, one, chance, share, leavesAlone)]));
}

async function answerOf(route, one, chance) {
	if (chance(0.05)) return route.abort();
	if (chance(0.05)) return route.fulfill({ status: one([204, 301, 400, 401, 404, 413, 429, 500, 503]), body: one(TEXTS), headers: { 'retry-after': one(TEXTS.filter((text) => /^[ -~]*$/.test(text))) } });
	if (chance(0.05)) return route.fulfill({ status: 200, body: JSON.stringify(one(VALUES)) });
	const response = await route.fetch();
	const body = await response.json().catch(() => ({}));
	return route.fulfill({ status: response.status(), json: mutated(body, one, chance, one([0, 0.002, 0.02, 0.2]), chance(0.5)) });
}

/** What is wrong with what a seed shows; null if nothing is. */
async function look(seed) {
	const random = new Random(seed + 1);
	const one = (items) => random.pick(items);
	const chance = (share) => random.chance(share);
	const address = addressOf(one, chance);
	const width = one([390, 900, 1440]);
	const context = await session.browser.newContext({ viewport: { width, height: 900 } });
	const page = await context.newPage();
	const wrong = [];
	page.on('pageerror', (error) => wrong.push(`${error.stack}`));
	page.on('dialog', (dialog) => (wrong.push('a dialog'), dialog.dismiss()));
	await page.route(/\/api\/v1\//, (route) => answerOf(route, one, chance).catch(() => undefined));
	await page.goto(session.url + address);
	try {
		await page.waitForFunction((min) => document.querySelector('main')?.innerText.trim().length >= min, SHOWN_MIN, { timeout: 10_000 });
		await page.waitForTimeout(500);
		const { shown, faults, frame } = await page.evaluate(() => ({
			shown: document.querySelector('main')?.innerText.trim().length ?? 0,
			faults: [...document.querySelectorAll('.fault')].map((fault) => fault.textContent),
			frame: document.querySelector('header')?.innerText.trim().length ?? 0
		}));
		if (shown < SHOWN_MIN) wrong.push('nothing is shown');
		if (frame === 0) wrong.push('the frame is gone');
		wrong.push(...faults);
	} catch (error) {
		wrong.push(`nothing is shown: ${error.message}`);
	}
	await page.unrouteAll({ behavior: 'ignoreErrors' });
	await context.close();
	return wrong.length > 0 ? `seed ${seed}, ${width} px, ${address}\n    ${wrong.join('\n    ')}` : null;
}

test(`no address and no answer leaves a page blank (${SEEDS.length} seeds)`, async () => {
	const left = [...SEEDS];
	const failures = [];
	const work = async () => {
		for (let seed = left.shift(); seed !== undefined; seed = left.shift()) {
			const failure = await look(seed);
			if (failure) failures.push(failure);
		}
	};
	await Promise.all(Array.from({ length: PAGES_AT_ONCE }, work));
	assert.deepEqual(failures.slice(0, 5).join('\n'), '', `${failures.length} of ${SEEDS.length} seeds`);
});
