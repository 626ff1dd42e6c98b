/** The pages there are, and what can be done on them: rail, palette, keys and help all read it here. */
import { queryPage, searchPage } from '$lib/address/pages';

export interface Command {
	does: string;
	/**
	 * As `KeyboardEvent.key` has them, two that are pressed one after the other with a space between, with `Ctrl+` before one that
	 * counts everywhere; any of them will do. What has none is found in the palette.
	 */
	keys?: readonly string[];
	/** What the help writes instead of the first key; alone for keys that something else listens to. */
	shown?: readonly string[];
	/** The help lists it in one line with the command before it. */
	joins?: true;
}

/** The pages that the rail leads to; each has a range of time. */
export const PAGES = {
	search: { name: 'Search', icon: 'search', address: searchPage, keys: ['g s'], does: 'Go to the search' },
	query: { name: 'Query', icon: 'code', address: queryPage, keys: ['g q'], does: 'Go to the query page' }
} as const;

export const GROUPS = {
	everywhere: {
		title: 'Everywhere',
		commands: {
			help: { keys: ['?'], does: 'Show this help' },
			palette: { keys: ['Ctrl+k', 'g t'], does: 'Go to a trace, service, operation or query, or do something' },
			...PAGES,
			save: { keys: ['S'], does: 'Save this query, or see those that were saved' },
			theme: { keys: [], does: 'Change the theme: dark, light, or the system’s' },
			leave: { shown: ['Esc'], does: 'Close, or leave a field' }
		}
	},
	results: {
		title: 'Results',
		commands: {
			next: { keys: ['j', 'ArrowDown'], does: 'Next trace' },
			previous: { keys: ['k', 'ArrowUp'], does: 'Previous trace', joins: true },
			open: { shown: ['Enter'], does: 'Open the trace' },
			again: { keys: ['r'], does: 'Search again' },
			find: { keys: ['/'], does: 'Go to the filters or the query' }
		}
	},
	tail: {
		title: 'Live tail',
		commands: {
			pause: { keys: ['p'], does: 'Pause the live tail, or go on' },
			clear: { keys: ['x'], does: 'Clear what came' }
		}
	},
	charts: {
		title: 'Charts',
		commands: {
			move: { shown: ['→', '↑'], does: 'Move what is pointed at' },
			select: { shown: ['Shift', '→'], does: 'Select a range' },
			zoom: { shown: ['Enter'], does: 'Zoom into the selection, or open' }
		}
	},
	editor: {
		title: 'Query editor',
		commands: {
			run: { shown: ['Ctrl', 'Enter'], does: 'Run the query' },
			complete: { shown: ['Ctrl', 'Space'], does: 'Complete' },
			format: { shown: ['Alt', 'Shift', 'F'], does: 'Format' },
			leave: { shown: ['Esc'], does: 'Leave the editor, as does Tab' }
		}
	},
	trace: {
		title: 'Trace',
		commands: {
			next: { keys: ['j', 'ArrowDown'], does: 'Next span' },
			previous: { keys: ['k', 'ArrowUp'], does: 'Previous span', joins: true },
			enter: { keys: ['ArrowRight', 'l'], does: 'Expand, or go to the first child' },
			leave: { keys: ['ArrowLeft', 'h'], does: 'Collapse, or go to the parent' },
			toggle: { keys: [' '], does: 'Expand or collapse' },
			open: { keys: ['Enter'], does: 'Open the span’s details' },
			close: { keys: ['Escape'], does: 'Close them' },
			find: { keys: ['/'], does: 'Find spans' },
			nextMatch: { keys: ['n'], does: 'Next match' },
			previousMatch: { keys: ['N'], does: 'Previous match', joins: true },
			nextError: { keys: ['e'], does: 'Next error' },
			previousError: { keys: ['E'], does: 'Previous error', joins: true },
			zoomOut: { keys: ['['], does: 'Zoom out' },
			zoomIn: { keys: [']'], does: 'Zoom in', joins: true },
			wholeTrace: { keys: ['0'], does: 'Show the whole trace' },
			zoomToSpan: { keys: ['f'], does: 'Zoom to the span' },
			expandAll: { keys: ['*'], does: 'Expand all' },
			collapseAll: { keys: ['-'], does: 'Collapse all', joins: true },
			levels: { keys: ['1', '2', '3', '4', '5', '6', '7', '8', '9'], shown: ['1', '…', '9'], does: 'Show that many levels' },
			first: { keys: ['Home'], does: 'First span' },
			last: { keys: ['End'], does: 'Last span', joins: true },
			pageDown: { keys: ['PageDown'], does: 'A page down' },
			pageUp: { keys: ['PageUp'], does: 'A page up', joins: true }
		}
	}
} as const satisfies Record<string, { title: string; commands: Record<string, Command> }>;

export type Group = keyof typeof GROUPS;
type Commands<G extends Group> = (typeof GROUPS)[G]['commands'];

/** What the commands of a group do; each that has keys. */
export type Handlers<G extends Group> = {
	[Id in keyof Commands<G> as Commands<G>[Id] extends { keys: readonly string[] } ? Id : never]: (key: string) => void;
};

/** The command of a group that a key, or one after another, stands for. */
export function commandOf(group: Group, pressed: string): string | null {
	const entries = Object.entries<Command>(GROUPS[group].commands);
	return entries.find(([, { keys }]) => keys?.includes(pressed))?.[0] ?? null;
}

/** Together with Ctrl, or on a Mac with ⌘. */
export const CHORD = 'Ctrl+';
const isChord = (pressed: string) => pressed.startsWith(CHORD);

/** Keys that are the first of two. */
export const isFirstOfTwo = (key: string) =>
	Object.values(GROUPS).some(({ commands }) =>
		Object.values<Command>(commands).some(({ keys }) => keys?.some((pressed) => pressed.length > 1 && pressed.startsWith(`${key} `)))
	);

/** Letters, digits and signs, alone or one after the other; the space bar is none of them. */
export const isSingleKey = (pressed: string) => pressed !== ' ' && /^.( .)*$/.test(pressed);

const WRITTEN: Record<string, string> = {
	ArrowDown: '↓',
	ArrowUp: '↑',
	ArrowRight: '→',
	ArrowLeft: '←',
	Escape: 'Esc',
	' ': 'Space',
	PageDown: 'PgDn',
	PageUp: 'PgUp'
};

/** Each key as it stands on the keyboard. */
export function written(pressed: string): string[] {
	if (isChord(pressed)) return ['Ctrl', pressed.slice(CHORD.length).toUpperCase()];
	return pressed in WRITTEN ? [WRITTEN[pressed]!] : pressed.split(' ');
}

/** A group as the help lists it: with the keys that do something, be it without the single ones. */
export function helpLines(group: Group, withSingleKeys: boolean): { keys: string[]; does: string }[] {
	const lines: { keys: string[]; does: string }[] = [];
	for (const { does, keys, shown, joins } of Object.values<Command>(GROUPS[group].commands)) {
		const key = keys?.find((pressed) => withSingleKeys || !isSingleKey(pressed));
		if (keys && key === undefined) continue;
		const named = shown ?? written(key!);
		const before = lines.at(-1);
		if (joins && before) {
			before.keys.push(...named);
			before.does += `, ${does[0]!.toLowerCase()}${does.slice(1)}`;
		} else lines.push({ keys: [...named], does });
	}
	return lines;
}
