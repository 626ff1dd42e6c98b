import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Asker, type Question } from './asker.svelte';

/** A page that can be hidden and shown. */
class Page extends EventTarget {
	hidden = false;

	get visibilityState() {
		return this.hidden ? 'hidden' : 'visible';
	}

	show(visible: boolean) {
		this.hidden = !visible;
		this.dispatchEvent(new Event('visibilitychange'));
	}
}

/** A server whose answers come when the test says so, whether or not anyone still waits. */
class Server {
	asked: { name: string; signal: AbortSignal; answer: (text: string) => Promise<void>; fail: () => Promise<void> }[] = [];
	shown: string[] = [];

	question(name: string, part: Partial<Question<string>> = {}): Question<string> {
		return {
			load: (signal) =>
				new Promise((resolve, reject) => {
					const settle = async (act: () => void) => {
						act();
						await vi.advanceTimersByTimeAsync(0);
					};
					this.asked.push({
						name,
						signal,
						answer: (text) => settle(() => resolve(text)),
						fail: () => settle(() => reject(new Error(name)))
					});
				}),
			answered: (text) => this.shown.push(text),
			failed: (error) => this.shown.push(`failed: ${error.message}`),
			...part
		};
	}

	get names() {
		return this.asked.map(({ name }) => name);
	}
}

let page: Page;
let server: Server;
let asker: Asker;

beforeEach(() => {
	vi.useFakeTimers();
	page = new Page();
	vi.stubGlobal('document', page);
	server = new Server();
	asker = new Asker();
});

afterEach(() => {
	asker.stop();
	vi.useRealTimers();
	vi.unstubAllGlobals();
});

const pass = (millis: number) => vi.advanceTimersByTimeAsync(millis);

describe('a page in the background', () => {
	it('asks when it is seen, once', async () => {
		page.show(false);
		asker.ask(server.question('a'));
		await pass(60_000);
		expect(server.names).toEqual([]);
		expect(asker.asking).toBe(true);
		page.show(true);
		await pass(0);
		page.show(false);
		page.show(true);
		await pass(0);
		expect(server.names).toEqual(['a']);
		await server.asked[0]!.answer('x');
		expect(server.shown).toEqual(['x']);
		expect(asker.asking).toBe(false);
	});

	it('asks the last of several questions only', async () => {
		page.show(false);
		asker.ask(server.question('a'));
		asker.ask(server.question('b'));
		await pass(0);
		page.show(true);
		await pass(0);
		expect(server.names).toEqual(['b']);
	});

	it('asks nothing that was ended before it was seen', async () => {
		page.show(false);
		asker.ask(server.question('a', { everyMillis: 10 }));
		await pass(0);
		asker.stop();
		page.show(true);
		await pass(100);
		expect(server.names).toEqual([]);
	});

	it('asks at once what is wanted unseen', async () => {
		page.show(false);
		asker.ask(server.question('a', { unseen: true }));
		await pass(0);
		expect(server.names).toEqual(['a']);
	});

	it('rests between two askings, and goes on when it is seen again', async () => {
		asker.ask(server.question('a', { everyMillis: 5_000 }));
		await pass(0);
		await server.asked[0]!.answer('1');
		page.show(false);
		await pass(60_000);
		expect(server.names).toHaveLength(1);
		page.show(true);
		await pass(0);
		expect(server.names).toHaveLength(2);
	});
});

describe('a question that is asked again and again', () => {
	it('is asked so long after each answer, failed or not', async () => {
		asker.ask(server.question('a', { everyMillis: 5_000 }));
		await pass(20_000);
		expect(server.names).toHaveLength(1);
		await server.asked[0]!.fail();
		await pass(4_999);
		expect(server.names).toHaveLength(1);
		await pass(1);
		await server.asked[1]!.answer('2');
		await pass(5_000);
		expect(server.names).toHaveLength(3);
		expect(server.shown).toEqual(['failed: a', '2']);
	});

	it.each(['while its answer is awaited', 'between two answers'])('ends when it is left %s', async (when) => {
		asker.ask(server.question('a', { everyMillis: 5_000 }));
		await pass(0);
		if (when.startsWith('between')) await server.asked[0]!.answer('1');
		const shown = [...server.shown];
		asker.stop();
		await server.asked[0]!.answer('late');
		await pass(60_000);
		expect(server.names).toEqual(['a']);
		expect(server.shown).toEqual(shown);
		expect(server.asked[0]!.signal.aborted).toBe(true);
		expect(vi.getTimerCount()).toBe(0);
	});

	it('ends for good when another takes its place', async () => {
		asker.ask(server.question('old', { everyMillis: 5_000 }));
		await pass(0);
		asker.ask(server.question('new', { everyMillis: 5_000 }));
		await pass(0);
		await server.asked[1]!.answer('of new');
		await server.asked[0]!.answer('of old');
		await pass(5_000);
		await server.asked[2]!.answer('of new again');
		expect(server.names).toEqual(['old', 'new', 'new']);
		expect(server.shown).toEqual(['of new', 'of new again']);
	});
});

describe('late news of an old question', () => {
	it('is thrown away, be it an answer or a failure', async () => {
		asker.ask(server.question('a'));
		await pass(0);
		asker.ask(server.question('b'));
		await pass(0);
		asker.ask(server.question('c'));
		await pass(0);
		await server.asked[0]!.answer('of a');
		await server.asked[1]!.fail();
		expect(server.shown).toEqual([]);
		expect(asker.asking).toBe(true);
		await server.asked[2]!.answer('of c');
		expect(server.shown).toEqual(['of c']);
	});

	it('is not even asked for when the question changes while it waits', async () => {
		for (const name of ['a', 'b', 'c']) {
			asker.ask(server.question(name, { afterMillis: 200 }));
			await pass(100);
		}
		await pass(200);
		expect(server.names).toEqual(['c']);
	});
});

it('tells of a question that cannot even be put', async () => {
	const broken = () => {
		throw new RangeError('Invalid time value');
	};
	asker.ask(server.question('a', { load: broken }));
	await pass(0);
	expect(server.shown).toEqual(['failed: Invalid time value']);
	expect(asker.asking).toBe(false);
});
