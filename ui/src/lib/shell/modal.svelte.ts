import { untrack } from 'svelte';
import { on } from 'svelte/events';
import type { Attachment } from 'svelte/attachments';

interface Modal {
	/** Just before it is shown. */
	begin?: () => void;
	/** As soon as it is hidden. */
	end?: () => void;
}

/**
 * Keeps a dialog as open as `flag` says, and `flag` as what the reader did with the dialog.
 *
 * A browser tells of a closed dialog by an event that comes later: by then it may be open again.
 */
export function modal(flag: { open: boolean }, { begin, end }: Modal = {}): Attachment<HTMLDialogElement> {
	return (dialog) => {
		const hide = () => (flag.open = false);
		const heard = [
			on(dialog, 'cancel', hide),
			on(dialog, 'close', () => dialog.open || hide()),
			// What lies around the dialog counts as the dialog itself.
			on(dialog, 'click', ({ target }) => target === dialog && hide())
		];
		$effect(() => {
			if (!flag.open) return;
			untrack(() => begin?.());
			if (!dialog.open) dialog.showModal();
			return () => {
				dialog.close();
				untrack(() => end?.());
			};
		});
		return () => heard.forEach((off) => off());
	};
}
