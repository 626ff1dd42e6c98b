/** Whether the dialogs that any page may open are open: the help, and the palette. */
export const help = $state({ open: false });

class Palette {
	#open = $state(false);
	/** Its part of the interface is fetched when it is opened for the first time. */
	wasOpened = $state(false);

	get open(): boolean {
		return this.#open;
	}

	set open(open: boolean) {
		this.#open = open;
		this.wasOpened ||= open;
	}
}
export const palette = new Palette();
