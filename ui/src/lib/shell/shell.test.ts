import { beforeEach, describe, expect, it, vi } from 'vitest';

vi.stubGlobal('HTMLElement', class {});
vi.stubGlobal('document', { body: {} });
const { listenTo, runKey, singleKeys } = await import('./keys');
const { commandOf, GROUPS, helpLines, isSingleKey } = await import('./registry');
type Group = keyof typeof GROUPS;

/** Handlers that write down which command ran. */
function recording(group: Group, ran: string[]) {
	const ids = Object.keys(GROUPS[group].commands);
	return Object.fromEntries(ids.map((id) => [id, (key: string) => void ran.push(`${group}.${id} ${key}`)])) as never;
}

describe('keys', () => {
	let ran: string[] = [];
	let leave: (() => void)[] = [];
	beforeEach(() => {
		leave.forEach((end) => end());
		[ran, leave] = [[], []];
		singleKeys.value = true;
		// Longer than any second key is awaited.
		now += 10_000;
	});
	let now = 0;
	const listen = (...groups: Group[]) => (leave = groups.map((group) => listenTo(group, recording(group, ran))));
	function press(key: string, more: object = {}) {
		const event = { key, target: null, timeStamp: now, defaultPrevented: false, preventDefault: vi.fn(), ...more };
		runKey(event as unknown as KeyboardEvent);
		return event.preventDefault.mock.calls.length > 0;
	}

	it.each([
		['a key of the page', 'j', {}, ['results.next j']],
		['a key of every page', '?', {}, ['everywhere.help ?']],
		['a key with a name', 'ArrowDown', {}, ['results.next ArrowDown']],
		['a key of another page', 'n', {}, []],
		['with Ctrl', 'r', { ctrlKey: true }, []],
		['with Meta', 'r', { metaKey: true }, []],
		['with Alt', 'r', { altKey: true }, []],
		['with Ctrl, where that is meant', 'k', { ctrlKey: true }, ['everywhere.palette k']],
		['with ⌘, where that is meant', 'k', { metaKey: true }, ['everywhere.palette k']],
		['taken by something else', 'r', { defaultPrevented: true }, []]
	])('%s', (_, key, more, expected) => {
		listen('everywhere', 'results');
		expect(press(key, more)).toBe(expected.length > 0);
		expect(ran).toEqual(expected);
	});

	it('one after the other, within their time', () => {
		listen('everywhere', 'results');
		press('g');
		press('s');
		press('g');
		now += 1_000;
		press('s');
		press('g');
		press('r');
		expect(ran).toEqual(['everywhere.search s', 'results.again r']);
	});

	it('of single characters, which can be turned off', () => {
		listen('everywhere', 'trace');
		singleKeys.value = false;
		for (const key of ['j', '?', '5', '[', 'g', 's', 'ArrowDown', 'Escape', ' ']) press(key);
		expect(ran).toEqual(['trace.next ArrowDown', 'trace.close Escape', 'trace.toggle  ']);
	});

	it('of a page that is left do nothing, and those of the next stay', () => {
		listen('results');
		const [leaveFirst] = leave;
		listen('results');
		leaveFirst!();
		press('j');
		leave.forEach((end) => end());
		press('j');
		expect(ran).toEqual(['results.next j']);
	});
});

describe('the registry', () => {
	it.each(Object.keys(GROUPS) as Group[])('has one command for a key of %s, and none that another group of its page has', (group) => {
		const keysOf = (one: Group) => Object.values(GROUPS[one].commands).flatMap((command) => ('keys' in command ? [...command.keys] : []));
		const keys: string[] = [...keysOf(group), ...(group === 'everywhere' ? [] : keysOf('everywhere'))];
		expect(keys).toHaveLength(new Set(keys).size);
		for (const key of keysOf(group)) expect(commandOf(group, key)).not.toBeNull();
	});

	it.each([
		['j', true],
		['?', true],
		['g s', true],
		[' ', false],
		['Enter', false]
	])('%j is of single characters: %s', (pressed, expected) => expect(isSingleKey(pressed)).toBe(expected));

	it('is listed in the help, with those keys that do something', () => {
		expect(helpLines('results', true)[0]).toEqual({ keys: ['j', 'k'], does: 'Next trace, previous trace' });
		expect(helpLines('results', false)).toEqual([
			{ keys: ['↓', '↑'], does: 'Next trace, previous trace' },
			{ keys: ['Enter'], does: 'Open the trace' }
		]);
		expect(helpLines('trace', true)).toContainEqual({ keys: ['1', '…', '9'], does: 'Show that many levels' });
		expect(helpLines('trace', false).map(({ does }) => does)).not.toContain('Show that many levels');
	});
});
