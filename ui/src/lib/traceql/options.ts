/** What to offer at a place of a query. Names of attributes and their values come from the server. */
import type { Context } from './context';
import { fieldText } from './edit';
import {
	AGGREGATES,
	COMPARISONS,
	HINTS,
	INTRINSICS,
	LOGIC,
	METRICS_FUNCTIONS,
	RANK_FUNCTIONS,
	RELATIONS,
	SCOPES,
	STAGES,
	WORDS_OF_FIELD,
	type Term
} from './vocabulary';

export interface Option {
	label: string;
	detail?: string;
	/** Which icon and group. */
	type: 'attribute' | 'field' | 'function' | 'operator' | 'value' | 'snippet';
	insert: string;
	/** Where the cursor goes inside what was inserted; its end when absent. */
	cursor?: number;
	/** Higher comes first among equal matches. */
	boost?: number;
}

/**
 * Where names come from: those on the spans that an unfinished query selects, on all if it is empty. A failed request offers
 * nothing and hinders nobody.
 */
export interface Names {
	keys(among: string): Promise<{ scope: string; key: string }[]>;
	values(scope: string, key: string, among: string): Promise<{ type: string; value: string | number | boolean }[]>;
	services(among: string): Promise<string[]>;
	operations(among: string): Promise<string[]>;
}

/** `template` is what to insert, with `#` where the cursor goes. */
function option(label: string, detail: string, type: Option['type'], template: string, boost = 0): Option {
	const cursor = template.indexOf('#');
	return { label, detail, type, insert: template.replace('#', ''), ...(cursor !== -1 && { cursor }), boost };
}

const asOptions = (terms: readonly Term[], type: Option['type'], after = ''): Option[] =>
	terms.map(({ label, does, template }) => option(label, does, type, template ?? label + after));

export async function optionsFor(context: Context, names: Names, among = ''): Promise<Option[]> {
	switch (context.expects) {
		case 'nothing':
			return [];
		case 'spanset':
			return spansets(context.first);
		case 'stage':
			return context.metrics ? asOptions(RANK_FUNCTIONS, 'function') : stages();
		case 'field':
			return fields(await names.keys(among).catch(() => []), context.literals);
		case 'value':
			return values(context.field, context.quoted, names, among);
		case 'operator':
			return asOptions(context.compared ? LOGIC : [...COMPARISONS, ...LOGIC], 'operator', ' #');
		case 'comparison':
			return asOptions(
				COMPARISONS.filter((term) => !term.label.includes('~')),
				'operator',
				' #'
			);
		case 'relation':
			return [option('|', 'pass on to a function', 'operator', '| #', 2), ...asOptions(RELATIONS, 'operator')];
		case 'grouping':
			return grouping(context.grouped);
		case 'hint':
			return asOptions(HINTS, 'field');
	}
}

function spansets(first: boolean): Option[] {
	const braces = option('{ }', 'spans that meet a condition', 'snippet', '{ # }', 2);
	return first
		? [braces, ...asOptions(AGGREGATES, 'function'), ...asOptions(STAGES.slice(0, 1), 'function')]
		: [braces];
}

function stages(): Option[] {
	const braces = option('{ }', 'a further condition', 'snippet', '{ # }');
	return [...asOptions([...METRICS_FUNCTIONS, ...AGGREGATES, ...STAGES], 'function'), braces];
}

function grouping(grouped: boolean): Option[] {
	const by = option('by', 'a series for each value', 'function', 'by (#)', 2);
	const rank = asOptions(
		RANK_FUNCTIONS.map((term) => ({ ...term, label: `| ${term.label}`, template: `| ${term.template}` })),
		'function'
	);
	const hints = option('with', 'hints to the server', 'function', 'with (#)', -1);
	return grouped ? [...rank, hints] : [by, ...rank, hints];
}

function fields(keys: { scope: string; key: string }[], literals: boolean): Option[] {
	const attribute = (scope: string, key: string, detail: string, boost: number): Option => {
		const text = fieldText(scope, key);
		return { label: text, detail, type: 'attribute', insert: text, boost };
	};
	const attributes = keys.map(({ scope, key }) => attribute(scope, key, '', 1));
	// `.key` looks in the span and then in its resource.
	const unscoped = keys.filter(({ scope }) => scope === 'span' || scope === 'resource').map(({ key }) => key);
	const anywhere = [...new Set(unscoped)].map((key) => attribute('', key, 'span or resource', -1));
	const words = literals ? [] : asOptions(INTRINSICS, 'field');
	const short = words.filter((word) => !word.label.includes(':')).map((word) => ({ ...word, boost: 2 }));
	const scoped = words.filter((word) => word.label.includes(':'));
	return [...short, ...asOptions(SCOPES, 'field'), ...attributes, ...scoped, ...anywhere];
}

const ATTRIBUTE = /^(?:parent\.)?(span|resource|event|link|instrumentation)?\.?(.+)$/s;

/** An attribute's scope and key: `span.http.route`, `.foo` (no scope), `resource."a b"`. */
export function attributeOf(field: string): { scope: string; key: string } | null {
	if (!field.includes('.')) return null;
	const match = field.startsWith('.') ? [field, '', field.slice(1)] : ATTRIBUTE.exec(field);
	if (!match?.[2]) return null;
	const key = match[2].replace(/"((?:[^"\\]|\\.)*)"/g, (_, inner: string) => inner.replace(/\\(.)/g, '$1'));
	return { scope: match[1] ?? '', key };
}

async function values(field: string, quoted: '"' | '`' | null, names: Names, among: string): Promise<Option[]> {
	const words = WORDS_OF_FIELD[field];
	if (words) return quoted ? [] : words.map((label) => ({ label, type: 'value', insert: label }));
	const known = await valuesOf(field, names, among).catch(() => []);
	return known
		.filter(({ type }) => !quoted || type === 'string')
		.map(({ type, value }): Option => {
			const text = String(value);
			if (type !== 'string') return { label: text, type: 'value', insert: text, detail: type };
			const literal = quoted ? escaped(text, quoted) : `"${escaped(text, '"')}"`;
			return { label: quoted ? text : literal, type: 'value', insert: literal };
		});
}

async function valuesOf(
	field: string,
	names: Names,
	among: string
): Promise<{ type: string; value: string | number | boolean }[]> {
	const asStrings = (list: string[]) => list.map((value) => ({ type: 'string', value }));
	if (/^(?:span:)?name$|^rootName$|^trace:rootName$/.test(field)) return asStrings(await names.operations(among));
	if (/^rootServiceName$|^trace:rootService$/.test(field)) return asStrings(await names.services(among));
	const attribute = attributeOf(field);
	return attribute ? names.values(attribute.scope, attribute.key, among) : [];
}

/** Text inside quotes. Backquotes know no escapes, so what needs one is left as it is. */
function escaped(text: string, quote: '"' | '`'): string {
	if (quote === '`') return text;
	return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n').replaceAll('\t', '\\t');
}
