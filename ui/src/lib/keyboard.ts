/** True when the key press belongs to a text field, a choice or a dialog and is no shortcut. */
export function isTyping(event: KeyboardEvent): boolean {
	const target = event.target;
	if (!(target instanceof HTMLElement)) return false;
	if (target.isContentEditable || target.closest('dialog')) return true;
	if (target instanceof HTMLInputElement) return !['checkbox', 'radio', 'button', 'range'].includes(target.type);
	return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}

export function hasModifier(event: KeyboardEvent): boolean {
	return event.ctrlKey || event.metaKey || event.altKey;
}

/** Moves the focus along the links of the traces in a list, and says which trace it is on. */
export function stepThroughTraces(list: HTMLElement | undefined, direction: 1 | -1): string | null {
	const links = [...(list?.querySelectorAll<HTMLAnchorElement>('a[data-trace]') ?? [])];
	const at = links.indexOf(document.activeElement as HTMLAnchorElement);
	const next = links[at === -1 ? (direction === 1 ? 0 : links.length - 1) : at + direction];
	next?.focus();
	next?.scrollIntoView({ block: 'nearest' });
	return next?.dataset.trace ?? null;
}
