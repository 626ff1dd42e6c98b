import { describe, expect, it } from 'vitest';
import { preferredColourIndex, SERVICE_COLOUR_COUNT, ServiceColours } from './serviceColour';

const names = Array.from({ length: 60 }, (_, index) => `service-${index}`);

describe('service colours', () => {
	it('prefers the same colour for the same name', () => {
		for (const name of names) {
			expect(preferredColourIndex(name)).toBe(preferredColourIndex(name));
			expect(preferredColourIndex(name)).toBeLessThan(SERVICE_COLOUR_COUNT);
		}
	});

	it('tells as many services apart as there are colours', () => {
		const colours = new ServiceColours();
		const given = names.slice(0, SERVICE_COLOUR_COUNT).map((name) => colours.index(name));
		expect(new Set(given).size).toBe(SERVICE_COLOUR_COUNT);
		for (const name of names) expect(colours.index(name)).toBe(colours.index(name));
		expect(colours.index('one more')).toBe(preferredColourIndex('one more'));
	});

	it('remembers what it gave', () => {
		let saved: [string, number][] = [];
		const first = new ServiceColours([], (map) => (saved = [...map]));
		const given = names.slice(0, 12).map((name) => first.index(name));
		const second = new ServiceColours(saved);
		expect(names.slice(0, 12).toReversed().map((name) => second.index(name)).toReversed()).toEqual(given);
	});
});
