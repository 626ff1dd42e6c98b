import { describe, expect, it } from 'vitest';
import { contextAt, saidBefore } from './context';
import { fieldText } from './edit';
import { attributeOf, optionsFor, type Names } from './options';
import { scan } from './scan';

/** The context where the bar stands. */
function at(marked: string) {
	const position = marked.indexOf('¦');
	return contextAt(marked.replace('¦', ''), position);
}

describe('the scanner', () => {
	it.each([
		['{ .a-1="x" }', ['{', '.a-1', '=', '"x"', '}']],
		['{span.db."the name"!~`x`}', ['{', 'span.db."the name"', '!~', '`x`', '}']],
		['a>>b&&!c', ['a', '>>', 'b', '&&', '!', 'c']],
		['{} !>> {} &> {}', ['{', '}', '!>>', '{', '}', '&>', '{', '}']],
		['duration>=1.5ms // why', ['duration', '>=', '1.5ms', '// why']],
		['span:name="open', ['span:name', '=', '"open']],
		['.5 .5xx', ['.5', '.5xx']]
	])('%s', (text, expected) => {
		expect(scan(text).map((token) => token.text)).toEqual(expected);
	});

	it('loses no character, whatever is typed', () => {
		const text = '{ ü.x = "\\" 🚀 # \' ; | rate(';
		const covered = scan(text)
			.map((token) => text.slice(token.from, token.to))
			.join('');
		expect(covered.replace(/\s/g, '')).toBe(text.replace(/\s/g, ''));
	});
});

describe('what may stand where the cursor is', () => {
	it.each([
		['¦', 'spanset'],
		['{ ¦ }', 'field'],
		['{ dur¦ }', 'field'],
		['{ resource.serv¦ }', 'field'],
		['{ (¦ }', 'field'],
		['{ .a = 1 && ¦ }', 'field'],
		['{ .a ¦ }', 'operator'],
		['{ .a = 1 ¦ }', 'operator'],
		['{ .a = ¦ }', 'value'],
		['{ .a = "x¦" }', 'value'],
		['{ .a =~ `x¦` }', 'value'],
		['{ .a = ["x", ¦] }', 'value'],
		['{ .a = "x"¦ }', 'nothing'],
		['{ } ¦', 'relation'],
		['{ } >> ¦', 'spanset'],
		['{ } | ¦', 'stage'],
		['{ } | ra¦', 'stage'],
		['{ } | rate() | ¦', 'stage'],
		['{ } | rate() ¦', 'grouping'],
		['{ } | rate() by (¦', 'field'],
		['{ } | rate() by (name, ¦)', 'field'],
		['{ } | rate() by (name) ¦', 'grouping'],
		['{ } | by(¦)', 'field'],
		['{ } | by(name) ¦', 'nothing'],
		['{ } | select(name, ¦)', 'field'],
		['{ } | count() ¦', 'comparison'],
		['{ } | avg(¦)', 'field'],
		['{ } | quantile_over_time(¦', 'field'],
		['{ } | quantile_over_time(duration, ¦', 'nothing'],
		['{ } | compare(¦)', 'spanset'],
		['{ } | compare({ ¦ })', 'field'],
		['({ ¦', 'field'],
		['({ } | ¦', 'stage'],
		['{ } | rate() with (¦', 'hint'],
		['{ } // ¦', 'nothing'],
		['{ /* ¦', 'nothing']
	])('%s', (marked, expects) => {
		expect(at(marked).expects).toBe(expects);
	});

	it('knows where a replacement begins', () => {
		expect(at('{ resource.serv¦ }')).toMatchObject({ from: 2 });
		expect(at('{ resource.service.name = "ca¦" }')).toEqual({
			expects: 'value',
			from: 27,
			field: 'resource.service.name',
			quoted: '"'
		});
		expect(at('{ status != ¦ }')).toMatchObject({ field: 'status', quoted: null, from: 12 });
		expect(at('{ .a = ["x", "y¦')).toMatchObject({ field: '.a', quoted: '"' });
	});

	it('tells series from spans before a stage', () => {
		expect(at('{ } | rate() by (name) | ¦')).toMatchObject({ expects: 'stage', metrics: true });
		expect(at('{ } | by(name) | ¦')).toMatchObject({ expects: 'stage', metrics: false });
	});
});

describe('what was said before about the spans', () => {
	it.each([
		['', ''],
		['{ ¦', ''],
		['{ .a = ¦', ''],
		['{ .a = 1 && ¦', '{ .a = 1 &&'],
		['{ .a = 1 && .b = "x¦" && .c = 2 }', '{ .a = 1 && .b = "x'],
		['{ .a = "} && {" && .b = ¦', '{ .a = "} && {" && .b ='],
		['{ .a = 1 } >> { .b = ¦', ''],
		['{ .a = 1 } >> { .b = 2 && ¦', '{ .b = 2 &&'],
		['{ .a = 1 } | rate() by (¦)', '{ .a = 1 } | rate() by ('],
		['rate() by (¦', '']
	])('%s', (marked, expected) => {
		const position = marked.includes('¦') ? marked.indexOf('¦') : marked.length;
		expect(saidBefore(marked.replace('¦', ''), position)).toBe(expected);
	});
});

const names: Names = {
	keys: async () => [
		{ scope: 'resource', key: 'service.name' },
		{ scope: 'span', key: 'http.route' },
		{ scope: 'span', key: 'odd key' }
	],
	values: async (scope, key) =>
		key === 'service.name'
			? [
					{ type: 'string', value: 'cart' },
					{ type: 'string', value: 'say "hi"' }
				]
			: [
					{ type: 'int', value: 200 },
					{ type: 'string', value: scope }
				],
	services: async () => ['cart'],
	operations: async () => ['GET /cart']
};

async function offered(marked: string) {
	return (await optionsFor(at(marked), names)).map((option) => option.insert);
}

describe('what is offered', () => {
	it('offers fields in braces: intrinsics, scopes, attributes', async () => {
		const inserts = await offered('{ ¦');
		for (const wanted of [
			'duration',
			'trace:duration',
			'resource.',
			'resource.service.name',
			'.http.route',
			'span."odd key"'
		]) {
			expect(inserts).toContain(wanted);
		}
	});

	it('offers values of the field that is compared', async () => {
		expect(await offered('{ resource.service.name = "¦')).toEqual(['cart', 'say \\"hi\\"']);
		expect(await offered('{ resource.service.name = ¦')).toEqual(['"cart"', '"say \\"hi\\""']);
		expect(await offered('{ span.http.status = ¦')).toEqual(['200', '"span"']);
		expect(await offered('{ span.http.status = "¦')).toEqual(['span']);
		expect(await offered('{ status = ¦')).toEqual(['error', 'ok', 'unset']);
		expect(await offered('{ span:kind = ¦')).toContain('server');
		expect(await offered('{ name = "¦')).toEqual(['GET /cart']);
		expect(await offered('{ rootServiceName = ¦')).toEqual(['"cart"']);
	});

	it('offers functions after a pipe, and ranks only after series', async () => {
		expect(await offered('{ } | ¦')).toContain('rate()');
		expect(await offered('{ } | rate() | ¦')).toEqual(['topk(10)', 'bottomk(10)']);
	});

	it('goes on without names when the server gives none', async () => {
		const down: Names = {
			...names,
			keys: () => Promise.reject(new Error()),
			values: () => Promise.reject(new Error())
		};
		expect((await optionsFor(at('{ ¦'), down)).length).toBeGreaterThan(20);
		expect(await optionsFor(at('{ .a = ¦'), down)).toEqual([]);
	});
});

describe('attributes and their spelling', () => {
	it.each([
		['span', 'http.route', 'span.http.route'],
		['', 'service.name', '.service.name'],
		['resource', 'odd key', 'resource."odd key"'],
		['span', 'say "hi"', 'span."say \\"hi\\""'],
		['', '5xx', '."5xx"'],
		['span', '5xx', 'span.5xx']
	])('%s %s', (scope, key, text) => {
		expect(fieldText(scope, key)).toBe(text);
		expect(attributeOf(text)).toEqual({ scope, key });
	});

	it('looks at the parent’s attributes by their own scope', () => {
		expect(attributeOf('parent.resource.service.name')).toEqual({ scope: 'resource', key: 'service.name' });
		expect(attributeOf('parent.foo')).toEqual({ scope: '', key: 'foo' });
		expect(attributeOf('duration')).toBeNull();
	});
});
