/**
 * The editor of the query page: CodeMirror with TraceQL. It is large, so only `QueryEditor.svelte` loads this file,
 * when a page needs it.
 */
import {
	autocompletion,
	closeBrackets,
	closeBracketsKeymap,
	completionKeymap,
	type Completion,
	type CompletionContext,
	type CompletionResult
} from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap } from '@codemirror/commands';
import { bracketMatching, HighlightStyle, LanguageSupport, LRLanguage, syntaxHighlighting } from '@codemirror/language';
import { linter, lintKeymap, type Diagnostic } from '@codemirror/lint';
import { EditorState, Prec } from '@codemirror/state';
import { drawSelection, EditorView, keymap, placeholder } from '@codemirror/view';
import { styleTags, tags } from '@lezer/highlight';
import type { QueryCheck } from '$lib/api/types';
import { contextAt, saidBefore, type Context } from './context';
import { optionsFor, type Names, type Option } from './options';
import { parser } from './parser.generated';

/** A query is checked when nobody has typed for so long. */
const CHECK_DELAY_MILLIS = 350;

export interface EditorOptions {
	parent: HTMLElement;
	value: string;
	label: string;
	description: string;
	hint: string;
	names: Names;
	/** What the server says of a query; null when it cannot tell. */
	check: (query: string) => Promise<QueryCheck | null>;
	onchange: (value: string) => void;
	onrun: () => void;
}

export interface QueryEditorHandle {
	setValue(value: string): void;
	focus(position?: number): void;
	format(): Promise<void>;
	destroy(): void;
}

const language = LRLanguage.define({
	name: 'traceql',
	parser: parser.configure({
		props: [
			styleTags({
				'LineComment BlockComment': tags.comment,
				'String RawString': tags.string,
				'Integer Float Duration Limit': tags.number,
				Constant: tags.atom,
				Attribute: tags.propertyName,
				Intrinsic: tags.variableName,
				Function: tags.keyword,
				'Keyword HintName': tags.keyword,
				'CompareOp RelationOp LogicalOp ArithmeticOp Pipe': tags.operator,
				'( ) { } [ ]': tags.bracket
			})
		]
	}),
	languageData: {
		commentTokens: { line: '//', block: { open: '/*', close: '*/' } },
		closeBrackets: { brackets: ['(', '[', '{', '"', '`'] }
	}
});

const colours = HighlightStyle.define([
	{ tag: tags.comment, color: 'var(--text-faint)', fontStyle: 'italic' },
	{ tag: tags.string, color: 'var(--code-string)' },
	{ tag: [tags.number, tags.atom], color: 'var(--code-number)' },
	{ tag: tags.variableName, color: 'var(--code-field)' },
	{ tag: tags.propertyName, color: 'var(--text)' },
	{ tag: tags.keyword, color: 'var(--accent)' },
	{ tag: [tags.operator, tags.bracket], color: 'var(--text-soft)' }
]);

/** Contexts in which typing opens the list by itself; elsewhere Ctrl+Space does. */
const EAGER: ReadonlySet<Context['expects']> = new Set(['field', 'value', 'stage', 'hint']);
/** While only this is typed, a list stays good and is merely filtered. */
const VALID_FOR: Partial<Record<Context['expects'], RegExp>> = {
	field: /^[^\s{}(),=!~<>&|^"]*$/,
	stage: /^\w*$/,
	hint: /^\w*$/
};

function source(names: Names) {
	return async (context: CompletionContext): Promise<CompletionResult | null> => {
		const text = context.state.doc.toString();
		const place = contextAt(text, context.pos);
		const typed = context.pos > place.from;
		if (!context.explicit && !typed && !EAGER.has(place.expects)) return null;
		const options = await optionsFor(place, names, saidBefore(text, place.from));
		if (options.length === 0 || context.aborted) return null;
		const quote = place.expects === 'value' ? place.quoted : null;
		return {
			from: place.from,
			options: options.map((option) => asCompletion(option, quote)),
			validFor: place.expects === 'value' ? (quote ? /^[^"`\\\n]*$/ : /^[\w."-]*$/) : VALID_FOR[place.expects]
		};
	};
}

function asCompletion(option: Option, quote: string | null): Completion {
	return {
		label: option.label,
		detail: option.detail,
		type: option.type,
		boost: option.boost,
		apply(view, _completion, from, to) {
			const closes = quote !== null && view.state.sliceDoc(to, to + 1) !== quote;
			const insert = closes ? option.insert + quote : option.insert;
			const past = quote !== null && !closes ? 1 : 0;
			const anchor = from + (option.cursor ?? insert.length + past);
			view.dispatch({
				changes: { from, to, insert },
				selection: { anchor },
				userEvent: 'input.complete',
				scrollIntoView: true
			});
		}
	};
}

/**
 * The list of completions keeps its focus in the text and scrolls with the arrow keys, so it must be no region of its
 * own that a keyboard could not reach: its overflow is hidden, and the wheel moves it from here.
 */
function scrollByWheel(event: WheelEvent): void {
	const list = event.target instanceof Element ? event.target.closest('.cm-tooltip-autocomplete > ul') : null;
	if (!list) return;
	list.scrollTop += event.deltaY;
	event.preventDefault();
}

function diagnosticsOf(check: QueryCheck | null, length: number): Diagnostic[] {
	if (!check || check.valid) return [];
	const { start, end, message, suggestion } = check.error;
	// An error at the end of the query has no text of its own; the last character stands in for it.
	const to = Math.min(Math.max(end, start + 1), length);
	const from = Math.min(start, Math.max(0, to - 1));
	return [{ from, to, severity: 'error', message: suggestion ? `${message}\n${suggestion}` : message }];
}

/** Replaces the text by the server's canonical form of it, if it has one. */
async function format(view: EditorView, check: EditorOptions['check']): Promise<void> {
	const before = view.state.doc.toString();
	const answer = await check(before);
	// What was typed meanwhile wins.
	if (!answer?.valid || view.state.doc.toString() !== before || answer.printed === before) return;
	view.dispatch({ changes: { from: 0, to: before.length, insert: answer.printed }, userEvent: 'input.format' });
}

export function createEditor(options: EditorOptions): QueryEditorHandle {
	const { parent, names, check } = options;
	const run = () => {
		options.onrun();
		return true;
	};
	const leave = (view: EditorView) => {
		view.contentDOM.blur();
		return true;
	};
	const view = new EditorView({
		parent,
		state: EditorState.create({
			doc: options.value,
			extensions: [
				history(),
				drawSelection(),
				bracketMatching(),
				closeBrackets(),
				autocompletion({
					override: [source(names)],
					icons: false,
					maxRenderedOptions: 80,
					activateOnCompletion: (done) => done.label.endsWith('.')
				}),
				new LanguageSupport(language),
				syntaxHighlighting(colours),
				linter(async (now) => diagnosticsOf(await check(now.state.doc.toString()), now.state.doc.length), {
					delay: CHECK_DELAY_MILLIS
				}),
				placeholder(options.hint),
				EditorView.lineWrapping,
				EditorView.contentAttributes.of({
					'aria-label': options.label,
					'aria-description': options.description,
					spellcheck: 'false'
				}),
				EditorView.updateListener.of((update) => update.docChanged && options.onchange(update.state.doc.toString())),
				Prec.highest(
					keymap.of([
						{ key: 'Mod-Enter', run },
						{ key: 'Shift-Alt-f', run: (now) => (void format(now, check), true) }
					])
				),
				// Tab is bound to nothing here: it leaves the editor, as it leaves any field.
				keymap.of([
					...closeBracketsKeymap,
					...completionKeymap,
					...historyKeymap,
					...lintKeymap,
					{ key: 'Escape', run: leave },
					...defaultKeymap
				])
			]
		})
	});
	view.dom.addEventListener('wheel', scrollByWheel, { passive: false });
	return {
		setValue(value) {
			const length = view.state.doc.length;
			if (view.state.doc.toString() !== value) view.dispatch({ changes: { from: 0, to: length, insert: value } });
		},
		focus(position) {
			view.focus();
			if (position !== undefined) view.dispatch({ selection: { anchor: Math.min(position, view.state.doc.length) } });
		},
		format: () => format(view, check),
		destroy: () => view.destroy()
	};
}
