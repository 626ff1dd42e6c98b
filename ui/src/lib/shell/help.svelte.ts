/** Whether the shortcut help is open; any page may open it. */
export const help = $state({ open: false });
