function read(key: string): number | null {
	try {
		const stored = Number(localStorage.getItem(key) ?? NaN);
		return Number.isFinite(stored) ? stored : null;
	} catch {
		return null;
	}
}

/** What a splitter moves, in pixels. */
export interface Resizable {
	value: number;
	readonly min: number;
	readonly max: number;
}

/** A number a person sets by dragging, kept in this browser and held within its bounds. */
export class NumberPreference {
	readonly min: number;
	readonly max: number;
	#key: string;
	#value = $state(0);

	constructor(name: string, initial: number, min: number, max: number) {
		this.#key = `tracehouse.${name}`;
		this.min = min;
		this.max = max;
		this.#value = this.#clamp(read(this.#key) ?? initial);
	}

	get value(): number {
		return this.#value;
	}

	set value(value: number) {
		this.#value = this.#clamp(value);
		try {
			localStorage.setItem(this.#key, String(this.#value));
		} catch {
			// Without storage the size lasts as long as the page.
		}
	}

	#clamp(value: number): number {
		return Math.round(Math.min(this.max, Math.max(this.min, value)));
	}
}

/** A choice between two, kept in this browser. */
export class FlagPreference {
	#number: NumberPreference;

	constructor(name: string, initial: boolean) {
		this.#number = new NumberPreference(name, Number(initial), 0, 1);
	}

	get value(): boolean {
		return this.#number.value === 1;
	}

	set value(value: boolean) {
		this.#number.value = Number(value);
	}
}
