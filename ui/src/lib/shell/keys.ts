import { FlagPreference } from '$lib/stores/preference.svelte';
import { CHORD, commandOf, GROUPS, isFirstOfTwo, isSingleKey, type Command, type Group, type Handlers } from './registry';

/** Whether keys of one character do anything by themselves. Who speaks to a computer must be able to turn that off (WCAG 2.1.4). */
export const singleKeys = new FlagPreference('singleKeys', true);

/** The second of two keys is awaited this long. */
const SEQUENCE_MILLIS = 900;

const listening = new Map<Group, Partial<Record<string, (key: string) => void>>>();
let before = { key: '', atMillis: -Infinity };

/** Has a group's keys do something until what it returns is called. */
export function listenTo<G extends Group>(group: G, handlers: Handlers<G>): () => void {
	listening.set(group, handlers);
	return () => void (listening.get(group) === handlers && listening.delete(group));
}

/** What can be done on this page, and the keys that do it. */
export function commandsNow(): { id: string; does: string; keys: readonly string[]; run: () => void }[] {
	return [...listening].flatMap(([group, handlers]) =>
		Object.entries<Command>(GROUPS[group].commands).flatMap(([id, { does, keys = [] }]) => {
			const run = handlers[id];
			return run ? [{ id, does, keys, run: () => run(keys[0] ?? '') }] : [];
		})
	);
}

/** True when the key press belongs to a text field, a choice or a dialog and is no shortcut. */
function isTyping(target: EventTarget | null): boolean {
	if (!(target instanceof HTMLElement)) return false;
	if (target.isContentEditable || target.closest('dialog')) return true;
	if (target instanceof HTMLInputElement) return !['checkbox', 'radio', 'button', 'range'].includes(target.type);
	return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}

/** Keys with names are needed by other controls, too: they count only where the focus is in the group's part, or nowhere. */
function counts(key: string, group: Group, target: EventTarget | null): boolean {
	if (isSingleKey(key) || key === 'Escape') return true;
	return !(target instanceof HTMLElement) || target === document.body || target.closest<HTMLElement>('[data-keys]')?.dataset.keys === group;
}

/** For the window: finds the command of a key press and runs it. */
export function runKey(event: KeyboardEvent): void {
	const { key, target, timeStamp } = event;
	if (event.defaultPrevented || event.altKey) return;
	if (event.ctrlKey || event.metaKey) {
		const handler = listening.get('everywhere')?.[commandOf('everywhere', CHORD + key) ?? ''];
		const isInDialog = target instanceof HTMLElement && target.closest('dialog');
		if (!handler || isInDialog) return;
		handler(key);
		event.preventDefault();
		return;
	}
	if (isTyping(target)) {
		// A dialog closes by itself.
		if (key === 'Escape') (target as HTMLElement).blur();
		return;
	}
	if (isSingleKey(key) && !singleKeys.value) return;
	const both = timeStamp - before.atMillis < SEQUENCE_MILLIS ? [`${before.key} ${key}`] : [];
	before = { key: '', atMillis: -Infinity };
	for (const pressed of [...both, key]) {
		for (const [group, handlers] of listening) {
			const handler = handlers[commandOf(group, pressed) ?? ''];
			if (!handler || !counts(key, group, target)) continue;
			handler(key);
			event.preventDefault();
			return;
		}
	}
	if (!isFirstOfTwo(key)) return;
	before = { key, atMillis: timeStamp };
	event.preventDefault();
}
