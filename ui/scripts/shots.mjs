/** Takes pictures of the pages in both themes and three widths into `shots/`, to look at: `npm run shots [name…]`. */
import { mkdir } from 'node:fs/promises';
import { launch, openServer } from '../e2e/browser.mjs';
import { startMock } from '../mock/server.mjs';

const server = await openServer();
const browser = await launch();
const wanted = process.argv.slice(2);
await mkdir('shots', { recursive: true });

const bySpans = (low, high) => server.traces.find((trace) => trace.spans.length >= low && trace.spans.length < high);
const failed = server.traces.find((trace) => trace.spans.length < 500 && trace.spans.some((span) => span.exception && span.name === 'charge card'));
const failedSpan = failed?.spans.find((span) => span.exception);
const orphaned = server.traces.find((trace) => trace.spans.some((span) => span.parent === -2));
const giant = bySpans(100_000, 1e9);

/** Saves what a page shows, as another reader would. */
const save = (page, name, description) =>
	page.evaluate(
		([path, body]) => fetch(path, { method: 'PUT', body }),
		[`/api/v1/saved-queries/${encodeURIComponent(name)}`, JSON.stringify({ description, address: '/query?q=%7Bstatus%3Derror%7D' })]
	);

const PAGES = {
	search: { path: '/' },
	picked: { path: '/?range=24h', act: async (page) => { const box = await page.getByRole('img', { name: /^Heatmap of the durations of/ }).boundingBox(); await page.mouse.move(box.x + box.width * 0.3, box.y + box.height * 0.15); await page.mouse.down(); await page.mouse.move(box.x + box.width * 0.95, box.y + box.height * 0.45, { steps: 3 }); await page.mouse.up(); await page.getByRole('region', { name: 'What is different about the part' }).getByText(/ of /).first().waitFor(); } },
	tail: { path: '/?view=tail', until: 'load', act: async (page) => { await page.locator('a[data-trace]').nth(12).waitFor(); } },
	tailheld: { path: '/?view=tail&status=error&q=&rate=2', until: 'load', act: async (page) => { await page.locator('a[data-trace]').nth(3).waitFor(); await page.keyboard.press('p'); await page.getByRole('button', { name: /that came$/ }).waitFor(); } },
	tailnothing: { path: '/?view=tail&service=no-such-service', until: 'load', act: async (page) => { await page.getByText('none of them in a trace').waitFor(); } },
	filtered: { path: '/?status=error&service=payment-provider&attr=http.response.status_code>=500&attr=resource.cloud.region=eu-central-1&range=24h' },
	traceql: { path: '/?q=' + encodeURIComponent('{ resource.service.name = "cart" && duration > 5ms }') },
	badquery: { path: '/?q=' + encodeURIComponent('{ nonsense') },
	partial: { path: '/?service=ads' },
	nothing: { path: '/?service=no-such-service' },
	complete: { path: '/', act: async (page) => { await page.getByRole('combobox', { name: 'Attribute filter' }).fill('http'); await page.waitForTimeout(300); } },
	trace: { path: `/trace/${failed?.traceId}` },
	span: { path: `/trace/${failed?.traceId}?span=${failedSpan?.id}` },
	root: { path: `/trace/${failed?.traceId}?span=${failed?.spans[0].id}` },
	find: { path: `/trace/${failed?.traceId}?find=stock` },
	missing: { path: `/trace/${orphaned?.traceId}` },
	giant: { path: `/trace/${giant?.traceId}` },
	zoomed: { path: `/trace/${giant?.traceId}?zoom=2000000000-4000000000&span=${giant?.spans[9000].id}` },
	unknown: { path: '/trace/0123456789abcdef0123456789abcdef' },
	hover: { path: '/?limit=200&sort=-duration&plot=traces', act: async (page) => { const box = await page.getByRole('img', { name: /by start and duration/ }).boundingBox(); for (let x = 60; x < box.width; x += 7) { await page.mouse.move(box.x + x, box.y + 80); if (await page.locator('.tip').count()) break; } } },
	narrowed: { path: '/?operation=GET+%2Fcart&attr=http.route%3D%2Fcart&live=1&minDuration=5ms' },
	collapsed: { path: `/trace/${failed?.traceId}`, act: async (page) => { await page.keyboard.press('2'); await page.keyboard.press('e'); const grid = page.getByRole('treegrid'); await grid.hover({ position: { x: (await grid.boundingBox()).width * 0.6, y: 120 } }); } },
	details: { path: `/trace/${failed?.traceId}?span=${failed?.spans[0].id}`, act: async (page) => { await page.getByRole('row', { name: /app.user/ }).hover(); } },
	query: { path: '/query' },
	queryspans: { path: '/query?tab=spans&q=' + encodeURIComponent('{ status = error && span.http.route != nil } | by(name)') },
	querytraces: { path: '/query?q=' + encodeURIComponent('{ resource.service.name = "ads" && duration > 1ms }') },
	queryrate: { path: '/query?q=' + encodeURIComponent('{ } | rate() by (resource.service.name)') },
	queryquantile: { path: '/query?q=' + encodeURIComponent('{ resource.service.name = "cart" && kind = server }\n| quantile_over_time(duration, .5, .95, .99) by (name)'), act: async (page) => { const box = await page.locator('.u-over').boundingBox(); await page.mouse.move(box.x + box.width * 0.6, box.y + box.height * 0.4); } },
	queryheat: { path: '/query?q=' + encodeURIComponent('{ } | histogram_over_time(duration)'), act: async (page) => { const box = await page.getByRole('img').boundingBox(); await page.mouse.move(box.x + box.width * 0.6, box.y + box.height * 0.5); } },
	querycompare: { path: '/query?q=' + encodeURIComponent('{ } | compare({ status = error })') },
	queryone: { path: '/query?step=all&q=' + encodeURIComponent('{ } | count_over_time() by (name)') },
	queryerror: { path: '/query?q=' + encodeURIComponent('{ durations > 2s }'), act: async (page) => { await page.waitForTimeout(600); await page.locator('.cm-lintRange-error').hover(); await page.waitForTimeout(500); } },
	querynone: { path: '/query?q=' + encodeURIComponent('{ resource.service.name = "nowhere" } | rate()') },
	querycomplete: { path: '/query', act: async (page) => { const editor = page.locator('.cm-content'); await editor.waitFor(); await editor.click(); await page.keyboard.type('{ resource.serv'); await page.locator('.cm-tooltip-autocomplete').waitFor(); } },
	queryvalues: { path: '/query', act: async (page) => { const editor = page.locator('.cm-content'); await editor.waitFor(); await editor.click(); await page.keyboard.type('{ resource.service.name = "c'); await page.locator('.cm-tooltip-autocomplete').waitFor(); } },
	palette: { path: '/', act: async (page) => { await page.keyboard.press('Control+k'); await page.waitForTimeout(300); await page.keyboard.type('ca'); } },
	tenants: { path: '/?tenant=shop', act: async (page) => page.getByRole('button', { name: /^Tenant:/ }).click() },
	saved: { path: '/query?q=%7Bstatus%3Derror%7D&range=6h', act: async (page) => { await save(page, 'Errors by service', 'What fails, and where'); await save(page, 'Slow checkouts of the shop in the last hours', ''); await page.getByRole('button', { name: 'Saved', exact: true }).click(); await page.getByRole('link', { name: 'Slow checkouts' }).last().waitFor(); } },
	help: { path: '/', act: async (page) => page.keyboard.press('?') }
};

const empty = await startMock({ empty: true });
for (const [name, { path, act, until = 'networkidle' }] of Object.entries({ ...PAGES, first: { path: '/' } })) {
	if (wanted.length > 0 && !wanted.includes(name)) continue;
	for (const theme of ['dark', 'light']) {
		for (const width of [1440, 900, 390]) {
			const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme: theme });
			page.on('console', (message) => message.type() === 'error' && process.stderr.write(`${name}: ${message.text()}\n`));
			page.on('pageerror', (error) => process.stderr.write(`${name}: ${error.stack}\n`));
			await page.goto((name === 'first' ? empty.url : server.url) + path, { waitUntil: until });
			await act?.(page);
			await page.waitForTimeout(400);
			await page.screenshot({ path: `shots/${name}-${theme}-${width}.png` });
			await page.close();
		}
	}
}
await browser.close();
server.stop();
empty.server.close();
empty.server.closeAllConnections();
