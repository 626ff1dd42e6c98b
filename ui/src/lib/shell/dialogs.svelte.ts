/** Whether the dialogs that any page may open are open. */
export const help = $state({ open: false });

class Fetched {
	#open = $state(false);
	/** The dialog's part of the interface is fetched when it is opened for the first time. */
	wasOpened = $state(false);

	get open(): boolean {
		return this.#open;
	}

	set open(open: boolean) {
		this.#open = open;
		this.wasOpened ||= open;
	}
}
export const palette = new Fetched();
/** The saved queries, and the form to save one more. */
export const saving = new Fetched();
