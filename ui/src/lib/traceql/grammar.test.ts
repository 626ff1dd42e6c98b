// Run by Vitest in Node, whose types this project does not carry.
// @ts-expect-error no types for Node
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parser } from './parser.generated';

interface Case {
	query: string;
	valid: boolean;
}

/** A block is a query (`>`), then its printed form (`=`) or its error (`!`). */
function casesOf(text: string): Case[] {
	const cases: Case[] = [];
	let lines: string[] = [];
	for (const line of text.split('\n')) {
		if (line.startsWith('>')) lines.push(line.replace(/^> ?/, ''));
		else if (lines.length > 0 && /^[=!]/.test(line)) {
			cases.push({ query: lines.join('\n'), valid: line.startsWith('=') });
			lines = [];
		}
	}
	return cases;
}

function hasError(query: string): boolean {
	let found = false;
	parser.parse(query).iterate({
		enter: (node) => {
			found ||= node.type.isError;
		}
	});
	return found;
}

/** Well-formed, but the server knows better: sizes of numbers, and what the operands are. */
const REFUSED_FOR_ITS_MEANING = new Set([
	'{ span."" = 1 }',
	'{ .a > 12345678901234567890123 }',
	'{ .a > 9223372036854775808 }',
	'{ .a > 1e999 }',
	'{ .a > 400y }',
	'{ .a = [1, nil] }',
	'{} = {}',
	'{} + {}',
	'{} >= {}',
	'{} > 3',
	'{} | count()',
	'{} | count() > 1 && avg(duration) > 1s',
	'{} | rate() | rate()',
	'{} | rate() | { .a }',
	'{} | rate() | count() > 1',
	'{} | topk(5)',
	'{} | quantile_over_time(duration, "x")',
	'({} | rate()) % ({} | rate())',
	'({} | rate()) && ({} | rate())',
	'({} | rate()) > ({} | rate())',
	'10 < ({} | rate())',
	'({} | rate()) && {}',
	'{} | ({} | rate())',
	'-{}',
	'5',
	'{} && -5',
	'{ .a = -"x" }'
]);

const folder = new URL('../../../../crates/traceql/tests/corpus/', import.meta.url);
const files: [string, Case[]][] = (readdirSync(folder) as string[])
	.filter((name) => name.endsWith('.txt'))
	.map((name) => [name, casesOf(readFileSync(new URL(name, folder), 'utf8') as string)]);

describe('the grammar and the corpus of the server’s parser', () => {
	it('finds the corpus', () => {
		expect(files.flatMap(([, cases]) => cases).filter((item) => item.valid).length).toBeGreaterThan(200);
	});

	it.each(files)('%s: takes every valid query', (_, cases) => {
		const refused = cases.filter((item) => item.valid && hasError(item.query)).map((item) => item.query);
		expect(refused).toEqual([]);
	});

	it('takes no query that is none', () => {
		const wrong = files.filter(([name]) => name === 'errors_syntax.txt' || name === 'hints.txt');
		const taken = wrong
			.flatMap(([, cases]) => cases)
			.filter((item) => !item.valid && !hasError(item.query))
			.map((item) => item.query);
		expect(taken.filter((query) => !REFUSED_FOR_ITS_MEANING.has(query))).toEqual([]);
	});
});
