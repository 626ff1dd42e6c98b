import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { apiOf } from '$lib/api/client';
import type { SearchAnswer } from '$lib/api/types';
import { Asking, type Manner } from './asking.svelte';
import { KeptAnswers } from './kept';
import { once, retryMillis } from './question';
import { LIVE_MILLIS, Round } from './round';

/** A page that can be hidden and shown. */
class Page extends EventTarget {
	visibilityState = 'visible';

	show(visible: boolean) {
		this.visibilityState = visible ? 'visible' : 'hidden';
		this.dispatchEvent(new Event('visibilitychange'));
		return pass(0);
	}
}

interface Asked {
	of: string;
	url: URL;
	tenant: string | null;
	signal: AbortSignal;
	answer: (body: unknown, status?: number, headers?: Record<string, string>) => Promise<void>;
	breakOff: () => Promise<void>;
}

/** A server whose answers come when the test says so. */
class Server {
	asked: Asked[] = [];
	/** Answers come even to those who left. */
	isStubborn = false;

	fetch = (path: string, { signal, headers }: { signal: AbortSignal; headers: Record<string, string> }) =>
		new Promise<Response>((resolve, reject) => {
			const url = new URL(path, 'http://house');
			this.asked.push({
				of: url.searchParams.get('service') ?? url.pathname.split('/').slice(3).join('/'),
				url,
				tenant: headers['x-scope-orgid'] ?? null,
				signal,
				answer: (body, status = 200, more = {}) => {
					resolve(new Response(typeof body === 'string' ? body : JSON.stringify(body), { status, headers: more }));
					return pass(0);
				},
				breakOff: () => {
					reject(new TypeError('Failed to fetch'));
					return pass(0);
				}
			});
			signal.addEventListener('abort', () => this.isStubborn || reject(signal.reason));
		});

	get names() {
		return this.asked.map(({ of }) => of);
	}

	get last() {
		return this.asked.at(-1)!;
	}
}

const pass = async (millis: number) => void (await vi.advanceTimersByTimeAsync(millis));
const found = (traceId: string, more = {}) => ({ traces: [{ traceId }], complete: true, ...more });
const search = (service: string, tenant = '') => apiOf(tenant).search(new URLSearchParams({ service }));

let page: Page;
let server: Server;
let asking: Asking<SearchAnswer>;
let round: Round;

function ask(manner: Manner<SearchAnswer> = {}) {
	asking = new Asking({ isEmpty: ({ traces }) => traces.length === 0, isPartial: ({ complete }) => !complete, ...manner });
	return asking;
}

/** A page with panels of these services. */
function roundOf(...services: string[]) {
	round = new Round();
	return services.map((service) =>
		round.panel((nowMillis) => apiOf('').search(new URLSearchParams({ service, start: String(nowMillis) })))
	);
}

/** What a person sees: the state, the trace that is shown, and the error beside it. */
const shown = (of = asking) => [of.state, of.answer?.traces[0]?.traceId ?? null, of.error?.title ?? null];

beforeEach(() => {
	vi.useFakeTimers({ now: 1_000_000 });
	vi.spyOn(Math, 'random').mockReturnValue(0);
	page = new Page();
	server = new Server();
	vi.stubGlobal('document', page);
	vi.stubGlobal('fetch', server.fetch);
	ask();
	roundOf();
});

afterEach(async () => {
	asking.leave();
	round.end();
	await pass(0);
	expect(vi.getTimerCount()).toBe(0);
	vi.useRealTimers();
	vi.unstubAllGlobals();
	vi.restoreAllMocks();
});

const RULES: Record<string, () => Promise<void>> = {
	// The newest wins.
	'the newest question wins, in whatever order answers come': async () => {
		server.isStubborn = true;
		for (const service of ['a', 'b', 'c']) {
			asking.put(search(service));
			await pass(0);
		}
		await server.asked[0]!.answer(found('of a'));
		await server.asked[1]!.answer({}, 500);
		expect(shown()).toEqual(['waiting', null, null]);
		await server.asked[2]!.answer(found('of c'));
		expect(shown()).toEqual(['shown', 'of c', null]);
	},
	'an answer that comes later than that to the next question is thrown away': async () => {
		server.isStubborn = true;
		asking.put(search('a'));
		await pass(0);
		asking.put(search('b'));
		await pass(0);
		await server.asked[1]!.answer(found('of b'));
		await server.asked[0]!.answer(found('of a'));
		expect(shown()).toEqual(['shown', 'of b', null]);
	},
	'what is asked already is not asked twice': async () => {
		asking.put(search('a'));
		await pass(0);
		asking.put(search('a'));
		await pass(0);
		expect([server.names, server.last.signal.aborted]).toEqual([['a'], false]);
	},
	'a question of another tenant is another question': async () => {
		asking.put(search('a'));
		asking.put(search('a', 'red'));
		await pass(0);
		expect(server.last.tenant).toBe('red');
		expect(search('a').key).not.toBe(search('a', 'red').key);
	},
	'one that is replaced while it rests is never asked': async () => {
		ask({ restMillis: 200 });
		for (const service of ['a', 'b', 'c']) {
			asking.put(search(service));
			await pass(100);
		}
		await pass(200);
		expect(server.names).toEqual(['c']);
	},

	// It ends.
	'another question aborts the one before': async () => {
		asking.put(search('a'));
		await pass(0);
		asking.put(search('b'));
		expect(server.asked[0]!.signal.aborted).toBe(true);
	},
	'leaving aborts what is awaited, and asks no more': async () => {
		server.isStubborn = true;
		const [panel] = roundOf('a');
		const end = round.begin(LIVE_MILLIS);
		await pass(0);
		end();
		await server.last.answer(found('late'));
		await pass(60_000);
		expect([server.names, server.last.signal.aborted, panel!.answer]).toEqual([['a'], true, null]);
	},
	'leaving between two turns ends them': async () => {
		roundOf('a');
		const end = round.begin(LIVE_MILLIS);
		await pass(0);
		await server.last.answer(found('1'));
		end();
		await pass(60_000);
		expect(server.names).toEqual(['a']);
	},

	// What is shown.
	'nothing is there before the first answer': async () => {
		expect(shown()).toEqual(['waiting', null, null]);
		asking.put(search('a'));
		expect(shown()).toEqual(['waiting', null, null]);
		expect(asking.asking).toBe(true);
	},
	'an answer may be empty': async () => {
		asking.put(search('a'));
		await pass(0);
		await server.last.answer({ traces: [] });
		expect(shown()).toEqual(['empty', null, null]);
	},
	'an answer may be partial, also when nothing is in it yet': async () => {
		asking.put(search('a'));
		await pass(0);
		await server.last.answer({ traces: [], complete: false });
		expect(shown()).toEqual(['partial', null, null]);
	},
	'the last answer is kept until the next is here': async () => {
		asking.put(search('a'));
		await pass(0);
		await server.last.answer(found('of a'));
		asking.put(search('b'));
		await pass(0);
		expect(shown()).toEqual(['stale', 'of a', null]);
		expect(asking.fresh).toBeNull();
		await server.last.answer(found('of b'));
		expect(shown()).toEqual(['shown', 'of b', null]);
	},
	'an answer to the same question is not stale while it is asked anew': async () => {
		asking.put(search('a'));
		await pass(0);
		await server.last.answer(found('1'));
		asking.put(search('a'));
		await pass(0);
		expect(shown()).toEqual(['shown', '1', null]);
		await server.last.answer(found('2'));
		expect(shown()).toEqual(['shown', '2', null]);
	},
	'an error stands beside the last answer': async () => {
		const [panel] = roundOf('a');
		round.begin(LIVE_MILLIS);
		await pass(0);
		await server.last.answer(found('1'));
		await pass(LIVE_MILLIS);
		await server.last.answer({ title: 'Out of order' }, 500);
		expect(shown(panel)).toEqual(['failed', '1', 'Out of order']);
	},
	'an old error is gone with a new answer': async () => {
		asking.put(search('a'));
		await pass(0);
		await server.last.answer({ title: 'Out of order' }, 503);
		await pass(1_000);
		await server.last.answer(found('of a'));
		expect(shown()).toEqual(['shown', 'of a', null]);
	},
	'an old error is gone with another question': async () => {
		asking.put(search('a'));
		await pass(0);
		await server.last.answer({ title: 'No such word', detail: 'x' }, 400);
		expect(shown()).toEqual(['refused', null, 'No such word']);
		asking.put(search('b'));
		expect(shown()).toEqual(['waiting', null, null]);
	},
	'a question that cannot even be put is refused': async () => {
		asking.put(() => {
			throw new RangeError('Invalid time value');
		});
		await pass(60_000);
		expect(shown()).toEqual(['refused', null, 'Something went wrong in this page']);
		expect(asking.error?.detail).toBe('Invalid time value');
		expect(asking.asking).toBe(false);
	},
	'a panel without a question shows nothing': async () => {
		const [panel] = roundOf('a');
		const other = round.panel<SearchAnswer>(() => null);
		round.begin();
		await pass(0);
		expect([server.names, panel!.asking, other.asking, other.answer]).toEqual([['a'], true, false, null]);
	},

	// Nobody sees it.
	'a page in the background asks when it is seen, once': async () => {
		const [panel] = roundOf('a');
		await page.show(false);
		round.begin(LIVE_MILLIS);
		await pass(60_000);
		expect(server.names).toEqual([]);
		expect(panel!.asking).toBe(true);
		await page.show(true);
		await page.show(false);
		await page.show(true);
		expect(server.names).toEqual(['a']);
		await server.last.answer(found('of a'));
		expect(shown(panel)).toEqual(['shown', 'of a', null]);
	},
	'of several questions in the background the last is asked': async () => {
		await page.show(false);
		asking.put(search('a'));
		asking.put(search('b'));
		await page.show(true);
		expect(server.names).toEqual(['b']);
	},
	'what was left in the background is not asked when it is seen': async () => {
		await page.show(false);
		asking.put(search('a'));
		asking.leave();
		await page.show(true);
		expect(server.names).toEqual([]);
	},
	'what is wanted unseen is asked at once': async () => {
		ask({ unseen: true });
		await page.show(false);
		asking.put(search('a'));
		await pass(0);
		expect(server.names).toEqual(['a']);
	},
	'turns pause in the background, and go on at once when it is seen': async () => {
		roundOf('a');
		round.begin(LIVE_MILLIS);
		await pass(0);
		await server.last.answer(found('1'));
		await page.show(false);
		await pass(60_000);
		expect(server.names).toHaveLength(1);
		await page.show(true);
		expect(server.names).toHaveLength(2);
	},
	'a failed question is not asked again in the background': async () => {
		asking.put(search('a'));
		await pass(0);
		await server.last.breakOff();
		await page.show(false);
		await pass(60_000);
		expect(server.names).toHaveLength(1);
		await page.show(true);
		expect(server.names).toHaveLength(2);
	},

	// In turns, together.
	'a live page asks in turns, and passes by what still waits': async () => {
		roundOf('fast', 'slow');
		round.begin(LIVE_MILLIS);
		await pass(0);
		await server.asked[0]!.answer(found('1'));
		await pass(LIVE_MILLIS);
		expect(server.names).toEqual(['fast', 'slow', 'fast']);
		expect(server.asked[1]!.signal.aborted).toBe(false);
		await server.asked[1]!.answer(found('2'));
		await pass(LIVE_MILLIS);
		expect(server.names).toEqual(['fast', 'slow', 'fast', 'slow']);
	},
	'answers of a live page are not stale between its turns': async () => {
		const [panel] = roundOf('a');
		round.begin(LIVE_MILLIS);
		await pass(0);
		await server.last.answer(found('1'));
		await pass(LIVE_MILLIS);
		expect(shown(panel)).toEqual(['shown', '1', null]);
	},
	'a live search that changes in flight is asked no more, and old and new answers do not alternate': async () => {
		server.isStubborn = true;
		roundOf('old');
		round.begin(LIVE_MILLIS);
		await pass(0);
		round.end();
		const [panel] = roundOf('new');
		round.begin(LIVE_MILLIS);
		await pass(0);
		await server.asked[1]!.answer(found('of new'));
		await server.asked[0]!.answer(found('of old'));
		await pass(LIVE_MILLIS);
		await server.last.answer(found('of new again'));
		expect([server.names, panel!.answer!.traces[0]!.traceId]).toEqual([['old', 'new', 'new'], 'of new again']);
	},
	'all panels count back from one moment, the one at which they are asked': async () => {
		roundOf('a');
		round.panel((nowMillis) => apiOf('').search(new URLSearchParams({ start: String(nowMillis) })), { restMillis: 60_300 });
		await page.show(false);
		round.begin(LIVE_MILLIS);
		await pass(60_000);
		await page.show(true);
		await pass(300);
		const moments = () => server.asked.map(({ url }) => Number(url.searchParams.get('start')));
		expect(moments()).toEqual([1_060_000, 1_060_000]);
		for (const asked of server.asked) await asked.answer(found('x'));
		await pass(LIVE_MILLIS);
		expect(new Set(moments().slice(2)).size).toBe(1);
		expect(moments()[2]).toBeGreaterThan(1_060_000);
	},
	'what is refused waits for another question, on a live page too': async () => {
		const [panel] = roundOf('a');
		round.begin(LIVE_MILLIS);
		await pass(0);
		await server.last.answer({ title: 'The query is wrong' }, 400);
		await pass(10 * LIVE_MILLIS);
		expect([server.names, shown(panel)]).toEqual([['a'], ['refused', null, 'The query is wrong']]);
		round.begin(LIVE_MILLIS);
		await pass(0);
		await server.last.answer(found('x'));
		await pass(LIVE_MILLIS);
		expect([server.names.length, shown(panel)]).toEqual([3, ['shown', 'x', null]]);
	},
	'a turn by hand begins anew': async () => {
		roundOf('a');
		round.begin(LIVE_MILLIS);
		await pass(0);
		round.begin(LIVE_MILLIS);
		await pass(0);
		expect(server.asked.map(({ signal }) => signal.aborted)).toEqual([true, false]);
		await server.last.answer(found('x'));
		await pass(LIVE_MILLIS);
		expect(server.names).toHaveLength(3);
	},

	// It goes wrong, and well again.
	'what takes too long fails': async () => {
		asking.put(search('a'));
		await pass(59_999);
		expect(shown()).toEqual(['waiting', null, null]);
		await pass(1);
		expect(shown()).toEqual(['failed', null, 'The server does not answer']);
		expect(server.asked[0]!.signal.aborted).toBe(true);
	},
	'what fails is asked again by itself, ever less often, until it goes well': async () => {
		asking.put(search('a'));
		await pass(0);
		for (const rest of [1_000, 2_000, 4_000]) {
			await server.last.breakOff();
			expect(shown()).toEqual(['failed', null, 'The server cannot be reached']);
			const before = server.asked.length;
			await pass(rest - 1);
			expect(server.asked).toHaveLength(before);
			await pass(1);
			expect(server.asked).toHaveLength(before + 1);
		}
		await server.last.answer(found('at last'));
		expect(shown()).toEqual(['shown', 'at last', null]);
	},
	'a busy server is asked again when it wants to be': async () => {
		asking.put(search('a'));
		await pass(0);
		await server.last.answer({ title: 'Too many questions' }, 429, { 'retry-after': '7' });
		expect(shown()).toEqual(['failed', null, 'Too many questions']);
		await pass(6_999);
		expect(server.names).toHaveLength(1);
		await pass(1);
		expect(server.names).toHaveLength(2);
	},
	'a server may name the time of day, too': async () => {
		asking.put(search('a'));
		await pass(0);
		await server.last.answer({}, 503, { 'retry-after': new Date(1_009_000).toUTCString() });
		await pass(8_999);
		expect(server.names).toHaveLength(1);
		await pass(1);
		expect(server.names).toHaveLength(2);
	},
	'turns leave a failed question to its own pace': async () => {
		roundOf('a');
		round.begin(LIVE_MILLIS);
		await pass(0);
		await server.last.answer({}, 503, { 'retry-after': '30' });
		await pass(29_999);
		expect(server.names).toHaveLength(1);
		await pass(1);
		expect(server.names).toHaveLength(2);
	},
	'what is refused is not asked again by itself, but by hand': async () => {
		asking.put(search('a'));
		await pass(0);
		await server.last.answer({ title: 'No such word' }, 400);
		await pass(600_000);
		expect(server.names).toHaveLength(1);
		asking.put(search('a'));
		await pass(0);
		expect(server.names).toHaveLength(2);
	},
	'an answer of somebody else fails': async () => {
		for (const body of ['<html>sign in</html>', '[]', 'null', '']) {
			asking.put(search('a'));
			await pass(0);
			await server.last.answer(body);
			expect(shown()).toEqual(['failed', null, 'The answer cannot be read']);
		}
	},

	// What is kept.
	'an answer that holds is there at once, of the same tenant alone': async () => {
		const spans = new Asking<unknown>();
		const span = (id: string, tenant = '') => apiOf(tenant).span('t', id);
		spans.put(span('1'));
		await pass(0);
		await server.last.answer({ spanId: '1' });
		spans.put(span('2'));
		await pass(0);
		await server.last.answer({ spanId: '2' });
		spans.put(span('1'));
		expect(spans.fresh).toMatchObject({ spanId: '1' });
		expect(server.asked).toHaveLength(2);
		spans.put(span('1', 'red'));
		expect(spans.fresh).toBeNull();
		await pass(0);
		expect(server.asked).toHaveLength(3);
		spans.leave();
	},
	'names hold for a while, and are asked once by those who want them at once': async () => {
		const names = () => once(apiOf('').services({ q: 'names' }));
		const both = Promise.all([names(), names()]);
		await pass(0);
		await server.last.answer({ services: [{ name: 'cart' }] });
		expect(await both).toEqual([{ services: [{ name: 'cart' }], complete: true }, { services: [{ name: 'cart' }], complete: true }]);
		await names();
		expect(server.asked).toHaveLength(1);
		await pass(20_000);
		void names();
		await pass(0);
		expect(server.asked).toHaveLength(2);
		await server.last.answer({});
	},
	'names that never came are asked for again': async () => {
		const names = () => once(apiOf('').services({ q: 'lost' }));
		const lost = expect(names()).rejects.toThrow('No answer came');
		await server.last.breakOff();
		await lost;
		void names();
		expect(server.asked).toHaveLength(2);
		await server.last.answer({});
	},
	'a tenant is named as the address has it, or not at all': async () => {
		for (const tenant of ['', 'red', 'red|blue', 'no such name']) {
			asking.put(search('a', tenant));
			await pass(0);
		}
		expect(server.asked.map(({ tenant }) => tenant)).toEqual([null, 'red', 'red|blue', 'no such name']);
		asking.put(search('a', 'rød\n'));
		await pass(0);
		expect(server.asked).toHaveLength(4);
		expect(shown()).toEqual(['refused', null, 'There is no such tenant']);
	}
};
it.each(Object.entries(RULES))('%s', (_, holds) => holds());

it.each([
	[1, null, 0, 1_000],
	[1, null, 1, 1_250],
	[4, null, 0, 8_000],
	[7, null, 0, 16_000],
	[2_000, null, 1, 20_000],
	[1, 30_000, 0, 30_000],
	[9, 30_000, 0.5, 33_750],
	[1, 86_400_000, 0, 60_000],
	[1, 0, 0, 0]
])('after %d failures, Retry-After %s, chance %d: %d ms', (failures, retryAfterMillis, chance, rest) =>
	expect(retryMillis(failures, { retryAfterMillis }, chance)).toBe(rest)
);

it('keeps answers within its bytes, those used last', () => {
	const kept = new KeptAnswers(100);
	for (const key of ['a', 'b', 'c']) kept.keep(key, key, 40, Infinity);
	expect(['a', 'b', 'c'].map((key) => kept.find(key))).toEqual([undefined, 'b', 'c']);
	kept.find('b');
	kept.keep('d', 'd', 40, Infinity);
	expect(['b', 'c', 'd'].map((key) => kept.find(key))).toEqual(['b', undefined, 'd']);
	kept.keep('b', 'larger', 101, Infinity);
	expect(['b', 'd'].map((key) => kept.find(key))).toEqual([undefined, 'd']);
});
