/** A small seeded generator (mulberry32): the mock shows the same data at every start. */
export class Random {
	#state;

	constructor(seed) {
		this.#state = seed >>> 0;
	}

	next() {
		this.#state = (this.#state + 0x6d2b79f5) >>> 0;
		let mixed = this.#state;
		mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
		mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
		return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
	}

	below(limit) {
		return Math.floor(this.next() * limit);
	}

	pick(list) {
		return list[this.below(list.length)];
	}

	chance(probability) {
		return this.next() < probability;
	}

	/** Long-tailed around a median. */
	lognormal(median, sigma) {
		const u = Math.max(1e-9, this.next());
		const v = this.next();
		return median * Math.exp(sigma * Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v));
	}

	hex(digits) {
		let text = '';
		while (text.length < digits) text += this.below(0x10000).toString(16).padStart(4, '0');
		return text.slice(0, digits);
	}
}
