/** The theme a person chose. `static/early.js` applies the same rule before the first paint. */
export const THEME_CHOICES = ['system', 'light', 'dark'] as const;
export type ThemeChoice = (typeof THEME_CHOICES)[number];

const STORAGE_KEY = 'tracehouse.theme';

function readChoice(): ThemeChoice {
	try {
		const stored = localStorage.getItem(STORAGE_KEY);
		return THEME_CHOICES.find((choice) => choice === stored) ?? 'system';
	} catch {
		return 'system';
	}
}

class Theme {
	choice = $state<ThemeChoice>(readChoice());
	#systemDark = $state(matchMedia('(prefers-color-scheme: dark)').matches);

	constructor() {
		matchMedia('(prefers-color-scheme: dark)').addEventListener('change', (event) => {
			this.#systemDark = event.matches;
			this.#apply();
		});
	}

	/** What is shown; canvases read it to know when to draw again. */
	get shown(): 'dark' | 'light' {
		if (this.choice === 'system') return this.#systemDark ? 'dark' : 'light';
		return this.choice;
	}

	/** What comes after the choice that is made. */
	get next(): ThemeChoice {
		return THEME_CHOICES[(THEME_CHOICES.indexOf(this.choice) + 1) % THEME_CHOICES.length]!;
	}

	choose(choice: ThemeChoice): void {
		this.choice = choice;
		try {
			localStorage.setItem(STORAGE_KEY, choice);
		} catch {
			// Without storage the choice lasts as long as the page.
		}
		this.#apply();
	}

	#apply(): void {
		document.documentElement.dataset.theme = this.shown;
	}
}

export const theme = new Theme();

/** The value of a colour token in the theme shown, for canvases. */
export function token(name: string): string {
	return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
