import type { Component } from 'svelte';

/** Whether the dialogs that any page may open are open. */
export const help = $state({ open: false });

/** A dialog whose part of the interface is fetched when it is opened for the first time. */
class Fetched {
	#open = $state(false);
	dialog = $state.raw<Component | null>(null);

	constructor(private readonly load: () => Promise<{ default: Component }>) {}

	get open(): boolean {
		return this.#open;
	}

	set open(open: boolean) {
		this.#open = open;
		if (open && this.dialog === null) void this.#begin();
	}

	async #begin() {
		try {
			this.dialog = (await this.load()).default;
		} catch {
			// The server is away, which the page says, or has another interface now. It can be tried again.
			this.open = false;
		}
	}
}

/** What is typed before the palette is there belongs to it, not to the page behind. */
class Palette extends Fetched {
	isShown = false;
	typedAhead = '';

	takes(event: KeyboardEvent): boolean {
		if (!this.open || this.isShown || event.ctrlKey || event.metaKey || event.altKey) return false;
		if (event.key === 'Escape') this.open = false;
		else if (event.key.length > 1) return false;
		this.typedAhead = this.open ? this.typedAhead + event.key : '';
		event.preventDefault();
		return true;
	}
}
export const palette = new Palette(() => import('./PaletteDialog.svelte'));
/** The saved queries, and the form to save one more. */
export const saving = new Fetched(() => import('./SavedDialog.svelte'));
