/** Moves the focus along the links of the traces in a list, and says which trace it is on. */
export function stepThroughTraces(list: HTMLElement | undefined, direction: 1 | -1): string | null {
	const links = [...(list?.querySelectorAll<HTMLAnchorElement>('a[data-trace]') ?? [])];
	const at = links.indexOf(document.activeElement as HTMLAnchorElement);
	const next = links[at === -1 ? (direction === 1 ? 0 : links.length - 1) : at + direction];
	next?.focus();
	next?.scrollIntoView({ block: 'nearest' });
	return next?.dataset.trace ?? null;
}
