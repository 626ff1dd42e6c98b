/** What no page may die of: the same thing twice, answers with holes, addresses that mean nothing, a part that fails. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { findTracePath, openPage, startSession, waitForAddress } from './session.mjs';

let session;
before(async () => (session = await startSession()));
after(() => session.stop());

const found = (page) => page.getByRole('table', { name: 'Traces found' }).locator('tbody').getByRole('link');
const query = (text) => `/query?q=${encodeURIComponent(text)}`;

/** Has `change` rewrite the answers to a path. */
function rewrite(path, change) {
	return (page) =>
		page.route(
			(url) => path.test(url.pathname),
			async (route) => {
				const response = await route.fetch();
				await route.fulfill({ json: change(await response.json()) });
			}
		);
}

const twice = (list) => [...list, ...list];
const thrice = (list) => [...list, ...list, ...list];

test('a condition that the address holds twice is shown once, and the search runs', async () => {
	const page = await openPage(session, '/?attr=resource.cloud.region=eu-central-1&attr=resource.cloud.region=eu-central-1&attr=junk&attr=junk', {
		expectFailures: true
	});
	assert.equal(await page.getByRole('button', { name: 'Remove resource.cloud.region=eu-central-1' }).count(), 1);
	await page.getByRole('button', { name: 'Remove junk' }).click();
	await found(page).first().waitFor();
	await page.done();
});

test('a search lists what is there twice, and keeps doing so while it is live', async () => {
	const prepare = rewrite(/\/search$/, (answer) => ({
		...answer,
		traces: twice(answer.traces.slice(0, 4)).map((trace) => ({ ...trace, services: thrice(trace.services) }))
	}));
	const page = await openPage(session, '/?live=1', { prepare });
	await found(page).nth(7).waitFor();
	const answered = page.waitForResponse(/\/search\?/);
	await page.keyboard.press('r');
	await answered;
	assert.equal(await found(page).count(), 8);
	await page.done();
});

test('spans that share an id are all listed, as the halves of a call are', async () => {
	const prepare = rewrite(/\/search$/, (answer) => ({
		...answer,
		traces: answer.traces.slice(0, 1).map((trace) => ({
			...trace,
			spansets: twice(trace.spansets.slice(0, 1)).map((set) => ({ ...set, spans: thrice(set.spans.slice(0, 1)) }))
		}))
	}));
	const page = await openPage(session, `${query('{ status = error }')}&tab=spans`, { prepare });
	const rows = page.getByRole('table', { name: 'Matching spans' }).locator('tbody').getByRole('row');
	await rows.nth(5).waitFor();
	assert.equal(await rows.count(), 6);
	await page.done();
});

test('exemplars of spans that share an id are all listed', async () => {
	const prepare = rewrite(/\/metrics$/, (answer) => ({
		...answer,
		series: answer.series.map((one) => ({
			...one,
			exemplars: one.exemplars.map((exemplar) => ({ ...exemplar, spanId: '00000000000000aa', traceId: '1'.repeat(32) }))
		}))
	}));
	const page = await openPage(session, query('{ } | quantile_over_time(duration, .9)'), { prepare });
	await page.getByText(/spans behind the lines/).click();
	assert.ok((await page.getByRole('listitem').getByRole('link').count()) > 1);
	await page.done();
});

test('a trace whose spans share one id is drawn, and each of them opens with what its id leads to', async () => {
	const { path, trace } = await findTracePath(session);
	const whole = await (await fetch(`${session.url}/api/v1/traces/${trace.traceId}`)).json();
	const shared = whole.spans.id[0];
	const marks = ['no_end', 'no_end'];
	const page = await openPage(session, `${path}?span=${shared}`, {
		prepare: async (page) => {
			await rewrite(/\/traces\/\w+$/, (answer) => {
				answer.spans.id = answer.spans.id.map((id, index) => (index < 3 ? shared : id));
				return answer;
			})(page);
			// A server that gives a half an id of its own may answer with the id that was sent.
			await rewrite(/\/spans\//, (answer) => ({ ...answer, marks, spanId: 'ffffffffffffffff', events: thrice(answer.events) }))(page);
		}
	});
	const rows = page.getByRole('treegrid').locator('[role="row"][aria-level]');
	await rows.nth(2).waitFor();
	assert.equal(await rows.count(), whole.spans.id.length);
	const details = page.getByRole('complementary', { name: 'Span details' });
	await details.getByRole('table', { name: 'Resource attributes' }).waitFor();
	assert.equal(await rows.first().getAttribute('aria-selected'), 'true');
	assert.equal(await details.getByText('no_end', { exact: true }).count(), 1);
	assert.equal(await details.locator('.stale').count(), 0);
	assert.equal(await details.getByText('Several spans share this id').count(), 0);
	await rows.nth(1).click();
	await details.getByText('Several spans share this id').waitFor();
	assert.equal(await rows.nth(1).getAttribute('aria-selected'), 'true');
	await page.done();
});

test('queries that the browser remembers twice do not keep the page from opening', async () => {
	const prepare = (page) =>
		page.addInitScript(() => localStorage.setItem('tracehouse.queries', JSON.stringify(['{ }', '{ }', 7, null])));
	const page = await openPage(session, '/query', { prepare });
	await page.getByRole('button', { name: 'History' }).click();
	assert.equal(await page.locator('#query-history').getByRole('button').count(), 1);
	await page.done();
});

const HUGE = '9'.repeat(400);
const ADDRESSES = [
	`/?limit=${HUGE}&sort=-constructor&status=__proto__&kind=7&range=${HUGE}&live=2`,
	'/?limit=1e999&limit=0&live=0',
	'/?start=yesterday&end=tomorrow',
	'/?start=2026-01-01T00:00:00Z&end=never',
	`/?start=${HUGE}&end=-${HUGE}`,
	'/?minDuration=soon&maxDuration=-1',
	'/?q=constructor',
	`/?attr=${'a'.repeat(3000)}%3D1&service=%00%F0%9F%8E%B8&operation=%3Cscript%3E`,
	`/query?q=%7B%20%7D%20%7C%20rate()&step=${HUGE}&tab=__proto__&limit=-5`,
	'/query?q=%7B%20%7D&start=2026-01-01T00:00:00Z&end=never',
	'/trace/nothing',
	`/trace/${HUGE}`
];
for (const address of ADDRESSES) {
	test(`the address ${address.slice(0, 60)} opens a page that can be used`, async () => {
		const page = await openPage(session, address, { expectFailures: true });
		await page.getByRole('navigation', { name: 'Pages' }).waitFor();
		await page.locator('main').getByRole('button').first().waitFor();
		assert.equal(await page.getByText('cannot be shown').count(), 0);
		await page.done();
	});
}

for (const [address, said] of [
	['/%ff', 'There is no such page'],
	['/%', 'There is no such page'],
	['/trace/%E0%A4%A', 'There is no such page'],
	['/query#%ff', 'Run']
]) {
	test(`the address ${address}, which is no text, leaves no blank page`, async () => {
		const page = await openPage(session, address, { expectFailures: true, expectErrors: /Not found: \/no-such-page/ });
		await page.getByRole('navigation', { name: 'Pages' }).waitFor();
		await page.getByText(said).first().waitFor();
		await page.done();
	});
}

test('what the address says of a trace may mean nothing', async () => {
	const { path } = await findTracePath(session);
	for (const said of [`zoom=${HUGE}-${HUGE}`, 'zoom=5-5', `zoom=0-${HUGE.slice(0, 20)}`, `span=${HUGE}`, 'span=__proto__&find=%00', 'zoom=NaN-1&zoom=1-2']) {
		const page = await openPage(session, `${path}?${said}`, { expectFailures: true });
		await page.getByRole('treegrid').locator('[role="row"][aria-level]').first().waitFor();
		assert.ok((await page.locator('.bar').first().boundingBox()).width > 0, said);
		await page.done();
	}
});

/** Takes one field away from every object of an answer. */
function without(value, field) {
	if (Array.isArray(value)) return value.map((item) => without(item, field));
	if (typeof value !== 'object' || value === null) return value;
	return Object.fromEntries(
		Object.entries(value).flatMap(([key, item]) => (key === field ? [] : [[key, without(item, field)]]))
	);
}

const HOLES = [
	['/', ['traceId', 'services', 'name', 'startTimeUnixNano', 'durationNanos', 'rootServiceName', 'inspected', 'spansets']],
	[`${query('{ status = error }')}&tab=spans`, ['spanId', 'fields', 'by', 'aggregates', 'startTimeUnixNano']],
	[query('{ } | rate() by (name)'), ['labels', 'values', 'exemplars', 'stepNanos', 'steps', 'weighting', 'value', 'timeUnixNano']],
	[query('{ } | compare({ status = error })'), ['labels', 'values', 'key', 'type']],
	[query('{ } | histogram_over_time(duration)'), ['labels', 'values', 'startTimeUnixNano']]
];
for (const [address, missing] of HOLES) {
	test(`${address.slice(0, 40)} lives with answers that lack a field`, async () => {
		for (const field of missing) {
			const page = await openPage(session, address, { prepare: rewrite(/\/(search|metrics|status)$/, (answer) => without(answer, field)) });
			await page.getByText(/spans inspected/).waitFor();
			assert.equal(await page.getByText('cannot be shown').count(), 0, field);
			await page.done();
		}
	});
}

test('a trace lives with answers that lack a field', async () => {
	const { path, trace } = await findTracePath(session);
	const { spans } = await (await fetch(`${session.url}/api/v1/traces/${trace.traceId}`)).json();
	for (const field of ['traceId', 'services', 'names', 'start', 'duration', 'parent', 'startTimeUnixNano', 'attributes', 'events', 'timeUnixNano', 'resource', 'scope', 'status', 'marks']) {
		const page = await openPage(session, `${path}?span=${spans.id[0]}`, { prepare: rewrite(/\/traces\//, (answer) => without(answer, field)) });
		await page.getByRole('treegrid').locator('[role="row"][aria-level]').first().waitFor();
		await page.getByRole('button', { name: 'Identity and scope' }).waitFor();
		assert.equal(await page.getByText('cannot be shown').count(), 0, field);
		await page.done();
	}
});

test('an answer that is none is told as such', async () => {
	for (const body of ['<html>sign in</html>', '[]', 'null', '']) {
		const prepare = (page) => page.route(/\/api\/v1\/search/, (route) => route.fulfill({ status: 200, body }));
		const page = await openPage(session, '/', { prepare });
		await page.getByRole('alert').filter({ hasText: 'The answer cannot be read' }).waitFor();
		await page.done();
	}
});

/** Logarithms, which the plot of traces needs and no table does, fail until the page says `window.mend()`. */
const breakPlot = (page) =>
	page.addInitScript(() => {
		const { log10 } = Math;
		Math.log10 = () => {
			throw new Error('no logarithms today');
		};
		window.mend = () => (Math.log10 = log10);
	});

test('a part that fails says so, and leaves the rest of the page alive', async () => {
	const page = await openPage(session, '/?plot=traces', { prepare: breakPlot, expectErrors: /cannot be (shown|drawn)/ });
	const fault = page.getByRole('alert').filter({ hasText: 'The plot of traces cannot be shown. no logarithms today' });
	await fault.waitFor();
	await found(page).first().waitFor();
	// An answer that comes later would try again by itself.
	const answered = page.waitForResponse(/search\?.*status=error/);
	await page.getByRole('combobox', { name: 'Status' }).selectOption('error');
	await (await answered).finished();
	await found(page).first().waitFor();
	await fault.waitFor();
	await page.evaluate(() => window.mend());
	await fault.getByRole('button', { name: 'Try again' }).click();
	await page.getByRole('img', { name: /traces? by start and duration/ }).waitFor();
	await page.done();
});

test('a part that failed tries again with the next answer', async () => {
	const page = await openPage(session, '/?plot=traces', { prepare: breakPlot, expectErrors: /cannot be (shown|drawn)/ });
	await page.getByRole('alert').filter({ hasText: 'The plot of traces' }).waitFor();
	await page.evaluate(() => window.mend());
	await page.keyboard.press('r');
	await page.getByRole('img', { name: /traces? by start and duration/ }).waitFor();
	await page.done();
});

test('several parts may fail at once', async () => {
	const { path } = await findTracePath(session);
	const prepare = async (page) => {
		await breakPlot(page);
		await page.addInitScript(() => {
			// What the header writes numbers with.
			Number.prototype.toLocaleString = () => {
				throw new Error('no figures today');
			};
		});
	};
	const page = await openPage(session, path, { prepare, expectErrors: /cannot be shown/ });
	await page.getByRole('alert').filter({ hasText: 'The overview cannot be shown' }).waitFor();
	await page.getByRole('alert').filter({ hasText: 'The summary cannot be shown' }).waitFor();
	await page.getByRole('search', { name: 'In this trace' }).waitFor();
	await page.getByRole('link', { name: 'Query', exact: true }).click();
	await page.getByRole('heading', { name: 'Begin with an example' }).waitFor();
	await page.done();
});

test('figures that cannot be written cost the summary of a search, not its traces', async () => {
	const prepare = rewrite(/\/search$/, (answer) => ({ ...answer, elapsedNanos: 77_777 }));
	const page = await openPage(session, '/', {
		expectErrors: /cannot be shown/,
		prepare: async (page) => {
			await prepare(page);
			await page.addInitScript(() => {
				const { toFixed } = Number.prototype;
				Number.prototype.toFixed = function (digits) {
					if (Number(this) === 77.777) throw new Error('not this one');
					return toFixed.call(this, digits);
				};
			});
		}
	});
	await page.getByRole('alert').filter({ hasText: 'The summary cannot be shown' }).waitFor();
	await found(page).first().waitFor();
	await page.done();
});

/** How canvases may fail; each until the page says `window.mend()`. */
const CANVASES = {
	'fail to draw': (page) =>
		page.addInitScript(() => {
			const { getContext } = HTMLCanvasElement.prototype;
			HTMLCanvasElement.prototype.getContext = () => {
				throw new Error('no canvas today');
			};
			window.mend = () => (HTMLCanvasElement.prototype.getContext = getContext);
		}),
	'have no context': (page) =>
		page.addInitScript(() => {
			const { getContext } = HTMLCanvasElement.prototype;
			HTMLCanvasElement.prototype.getContext = () => null;
			window.mend = () => (HTMLCanvasElement.prototype.getContext = getContext);
		}),
	'fail half way': (page) =>
		page.addInitScript(() => {
			const { fillRect } = CanvasRenderingContext2D.prototype;
			const { fillText } = CanvasRenderingContext2D.prototype;
			CanvasRenderingContext2D.prototype.fillRect = CanvasRenderingContext2D.prototype.fillText = () => {
				throw new Error('no ink today');
			};
			window.mend = () => Object.assign(CanvasRenderingContext2D.prototype, { fillRect, fillText });
		})
};
for (const [how, prepare] of Object.entries(CANVASES)) {
	const expectErrors = /cannot be drawn/;

	test(`where canvases ${how}, a heatmap says so and its table stays`, async () => {
		const page = await openPage(session, query('{ } | histogram_over_time(duration)'), { prepare, expectErrors });
		await page.getByText('The heatmap cannot be drawn. It can be read as a table').waitFor();
		const rows = page.getByRole('table', { name: 'Spans in each bucket' }).locator('tbody').getByRole('row');
		await rows.first().waitFor();
		assert.match(await rows.allInnerTexts().then((texts) => texts.join()), /[1-9]/);
		assert.equal(await page.getByText('cannot be shown').count(), 0);
		await page.evaluate(() => window.mend());
		await page.keyboard.press('r');
		await page.getByRole('img', { name: /^Heatmap of/ }).waitFor();
		await page.done();
	});

	test(`where canvases ${how}, a search says so and lists its traces`, async () => {
		const page = await openPage(session, '/?plot=traces', { prepare, expectErrors });
		await page.getByText('The plot of traces cannot be drawn. The table below').waitFor();
		await found(page).first().waitFor();
		assert.equal(await page.getByText('cannot be shown').count(), 0);
		await page.evaluate(() => window.mend());
		await page.keyboard.press('r');
		await page.getByRole('img', { name: /traces? by start and duration/ }).waitFor();
		await page.done();
	});

	test(`where canvases ${how}, the overview of a trace says so and still zooms`, async () => {
		const { path } = await findTracePath(session);
		const page = await openPage(session, path, { prepare, expectErrors });
		const told = page.getByText('The overview cannot be drawn. The rows below');
		await told.waitFor();
		const box = await told.boundingBox();
		await page.mouse.move(box.x + box.width * 0.2, box.y + 20);
		await page.mouse.down();
		await page.mouse.move(box.x + box.width * 0.6, box.y + 20, { steps: 4 });
		await page.mouse.up();
		await waitForAddress(page, /zoom=\d+-\d+/);
		await page.done();
	});
}

for (const how of ['fail to draw', 'have no context']) {
	test(`where canvases ${how}, time series still have their table`, async () => {
		const page = await openPage(session, query('{ } | rate() by (name)'), { prepare: CANVASES[how], expectErrors: /cannot be drawn/ });
		await page.getByText('The plot cannot be drawn. The table below').waitFor();
		await page.getByRole('table', { name: /^Series/ }).waitFor();
		await page.done();
	});
}

test('an editor that fails gives way to a plain field with the query', async () => {
	const prepare = (page) => page.addInitScript(() => localStorage.setItem('tracehouse.queries', JSON.stringify(['{ status = error }'])));
	const page = await openPage(session, '/query', { prepare, expectErrors: /The editor cannot show the query/ });
	await page.locator('.cm-content').waitFor();
	await page.evaluate(() => {
		const { observe } = MutationObserver.prototype;
		MutationObserver.prototype.observe = function (target, options) {
			if (target.classList?.contains('cm-content')) throw new Error('the editor is not observed today');
			observe.call(this, target, options);
		};
	});
	await page.getByRole('button', { name: 'History' }).click();
	await page.locator('#query-history').getByRole('button').first().click();
	const field = page.getByRole('textbox', { name: 'TraceQL query' });
	await page.waitForFunction(() => document.querySelector('textarea') !== null);
	assert.equal(await field.inputValue(), '{ status = error }');
	assert.equal(await page.locator('.cm-content').count(), 0);
	await page.getByText(/spans inspected/).waitFor();
	assert.equal(await page.getByText('cannot be shown').count(), 0);
	await page.done();
});

test('what is more than a list holds is told, of names, columns and matches', async () => {
	const many = (count, of) => Array.from({ length: count }, (_, index) => of(index));
	const services = (page) => page.route(/\/api\/v1\/services/, (route) => route.fulfill({ json: { services: many(90, (index) => ({ name: `service ${index}` })) } }));
	const search = await openPage(session, '/', { prepare: services });
	await search.getByRole('combobox', { name: 'Service' }).click();
	await search.getByRole('option', { name: '60 of 90' }).waitFor();
	await search.done();

	const fields = many(11, (index) => ({ key: `span.field${index}`, type: 'int', value: index }));
	const prepare = rewrite(/\/search$/, (answer) => ({
		...answer,
		traces: answer.traces.map((trace) => ({
			...trace,
			spansets: trace.spansets.map((set) => ({ ...set, aggregates: [], spans: set.spans.map((span) => ({ ...span, fields })) }))
		}))
	}));
	const spans = await openPage(session, `${query('{ status = error }')}&tab=spans`, { prepare });
	await spans.getByText('8 of 11 fields have a column').waitFor();
	await spans.done();

	const { path } = await findTracePath(session);
	const trace = await openPage(session, `${path}?find=GET`, { prepare: rewrite(/\/find$/, (answer) => ({ ...answer, total: answer.indices.length + 7 })) });
	await trace.getByRole('status').filter({ hasText: 'and 7 not listed' }).waitFor();
	await trace.done();
});
