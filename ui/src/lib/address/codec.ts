/** How the state of a page is written in its address: a table of fields, each of which reads and writes itself. */

export interface Codec<T> {
	/** What holds when the address says nothing of it, or nothing that means anything; it is left out. */
	readonly initial: T;
	/** The names of all parameters it may write. */
	readonly names: readonly string[];
	read(params: URLSearchParams): T;
	write(value: T, params: URLSearchParams): void;
}

/** A field in one parameter. `parse` gives undefined for what means nothing, `print` null for what is left out. */
export function field<T>(
	name: string,
	initial: T,
	parse: (text: string) => T | undefined,
	print: (value: T) => string | null = String
): Codec<T> {
	return {
		initial,
		names: [name],
		read: (params) => {
			const text = params.get(name);
			return (text === null ? undefined : parse(text)) ?? initial;
		},
		write: (value, params) => {
			const text = print(value);
			if (text !== null && text !== print(initial)) params.set(name, text);
		}
	};
}

export const text = (name: string) => field(name, '', (said) => said);

/** Null says something else than empty. */
export const textOrNull = (name: string, parse: (said: string) => string | undefined = (said) => said) =>
	field<string | null>(name, null, parse, (value) => value);

export const flag = (name: string) => field(name, false, (said) => said === '1', (value) => (value ? '1' : ''));

export const integer = (name: string, initial: number, min: number, max: number) =>
	field(name, initial, (said) => {
		const value = Number(said);
		return Number.isInteger(value) && value >= min && value <= max ? value : undefined;
	});

export const oneOf = <T extends string, I extends string>(name: string, allowed: readonly T[], initial: I) =>
	field<T | I>(name, initial, (said) => allowed.find((item) => item === said));

/** Several in parameters of one name. */
export function list<T>(name: string, parse: (texts: string[]) => T[], print: (value: T) => string): Codec<T[]> {
	return {
		initial: [],
		names: [name],
		read: (params) => parse(params.getAll(name)),
		write: (values, params) => values.forEach((value) => params.append(name, print(value)))
	};
}

/** Texts in the order they were given; one that is there twice is one. */
export const texts = (name: string) => list<string>(name, (said) => [...new Set(said.filter((item) => item !== ''))], String);

/** Fields of all kinds stand in one table. */
export type Table = Record<string, Codec<any>>;
export type StateOf<F extends Table> = { [K in keyof F]: F[K] extends Codec<infer T> ? T : never };

/** The addresses of a page below `path`. `settle` rules out what fields must not say together. */
export function addressOf<F extends Table>(
	path: string,
	fields: F,
	settle: (state: StateOf<F>) => StateOf<F> = (state) => state
) {
	type State = StateOf<F>;
	const each = Object.entries(fields);
	const stateOf = (valueOf: (name: string, codec: F[string]) => unknown) =>
		settle(Object.fromEntries(each.map(([name, codec]) => [name, valueOf(name, codec as F[string])])) as State);

	/** Fields that are not given are as they are at first. */
	const params = (part: Partial<State>): URLSearchParams => {
		const state = stateOf((name, codec) => part[name] ?? codec.initial);
		const said = new URLSearchParams();
		for (const [name, codec] of each) codec.write(state[name], said);
		return said;
	};

	/** Another address in which these fields say something else, whatever else it says. */
	const within = (address: URL, part: Partial<State>): string => {
		const said = new URLSearchParams(address.searchParams);
		const now = stateOf((_, codec) => codec.read(said));
		for (const [, codec] of each) codec.names.forEach((name) => said.delete(name));
		for (const [name, value] of params({ ...now, ...part })) said.append(name, value);
		return `${address.pathname}${said.size > 0 ? `?${said}` : ''}`;
	};

	return {
		fields,
		within,
		read: (said: URLSearchParams): State => stateOf((_, codec) => codec.read(said)),
		params,
		/** `below` is the rest of the path. */
		href: (part: Partial<State> = {}, below = ''): string => {
			const said = params(part).toString();
			return `${path}${encodeURIComponent(below)}${said ? `?${said}` : ''}`;
		}
	};
}
