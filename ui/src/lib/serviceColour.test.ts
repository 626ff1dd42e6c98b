import { describe, expect, it } from 'vitest';
import { SERVICE_COLOUR_COUNT, serviceColourIndex } from './serviceColour';

describe('service colours', () => {
	// Written down, so that nobody's services change colour by accident.
	it.each([
		['', 20],
		['cart', 17],
		['gateway', 13],
		['配送', 21]
	])('%j is always %d', (service, index) => expect(serviceColourIndex(service)).toBe(index));

	it('spread over the ring', () => {
		const given = Array.from({ length: 240 }, (_, index) => serviceColourIndex(`service-${index}`));
		expect(new Set(given).size).toBe(SERVICE_COLOUR_COUNT);
	});
});
