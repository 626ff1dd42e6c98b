// Run by Vitest in Node, whose types this project does not carry.
// @ts-expect-error no types for Node
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { SERVICE_COLOUR_COUNT } from '../serviceColour';

type Colour = [number, number, number];

const sheet = readFileSync(new URL('./tokens.css', import.meta.url), 'utf8');
const [darkPart = '', lightPart = ''] = sheet.split("[data-theme='light'] {");

function tokensOf(text: string): Map<string, string> {
	return new Map([...text.matchAll(/--([\w-]+): (#[0-9a-f]{6,8});/g)].map((match) => [match[1]!, match[2]!]));
}

function channels(hex: string): number[] {
	return [1, 3, 5, 7].filter((at) => at < hex.length).map((at) => parseInt(hex.slice(at, at + 2), 16));
}

/** A colour, see-through or not, laid over an opaque one. */
function over(hex: string, ground: Colour): Colour {
	const [red = 0, green = 0, blue = 0, alpha = 255] = channels(hex);
	return [red, green, blue].map((value, index) => (value * alpha + ground[index]! * (255 - alpha)) / 255) as Colour;
}

/** Relative luminance and contrast, WCAG 2.2. */
function luminance(colour: Colour): number {
	const linear = colour.map((value) => value / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
	return 0.2126 * linear[0]! + 0.7152 * linear[1]! + 0.0722 * linear[2]!;
}

function contrast(a: Colour, b: Colour): number {
	const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
	return (high! + 0.05) / (low! + 0.05);
}

describe.each([
	['dark', tokensOf(darkPart)],
	['light', tokensOf(lightPart)]
])('the %s theme', (_, tokens) => {
	const hex = (name: string) => tokens.get(name) ?? expect.fail(`--${name} is not defined`);
	const surface = over(hex('surface'), [0, 0, 0]);
	const on = (text: string, ground: string) => {
		const laid = over(hex(ground), surface);
		return contrast(over(hex(text), laid), laid);
	};

	const GROUNDS = ['surface', 'canvas', 'surface-raised', 'surface-sunken', 'surface-hover', 'surface-active', 'overlay'];
	const WASHES = ['match-wash', 'match-strong', 'accent-wash', 'error-wash', 'warning-wash'];

	it.each([...GROUNDS, ...WASHES])('has text of at least 4.5:1 on --%s', (ground) => {
		for (const text of ['text', 'text-soft', 'accent', 'error', 'warning', 'code-string', 'code-number', 'code-field']) {
			expect(on(text, ground), `--${text} on --${ground}`).toBeGreaterThanOrEqual(4.5);
		}
		if (GROUNDS.includes(ground)) expect(on('text-faint', ground)).toBeGreaterThanOrEqual(4.5);
	});

	it('has service colours of at least 3:1', () => {
		for (let index = 0; index < SERVICE_COLOUR_COUNT; index += 1) {
			expect(on(`service-${index}`, 'surface'), `--service-${index}`).toBeGreaterThanOrEqual(3);
		}
		expect(on('error-fill', 'surface')).toBeGreaterThanOrEqual(3);
		expect(on('on-accent', 'accent-fill')).toBeGreaterThanOrEqual(4.5);
	});
});
