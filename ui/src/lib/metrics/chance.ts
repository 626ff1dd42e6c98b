/** Whether a difference may be chance. */

/** With fewer spans than these of both sides together, nothing is said of a value. */
const SUPPORT_MIN = 5;

/**
 * How likely two shares differ as much as these do, or more, if both sides are alike: the two-sided test of two proportions with a
 * pooled variance. 1 where there is too little to tell. Spans of one trace are not independent, so it is a bound from below.
 */
export function chanceOf(count: number, total: number, otherCount: number, otherTotal: number): number {
	const pooled = (count + otherCount) / (total + otherTotal);
	const variance = pooled * (1 - pooled) * (1 / total + 1 / otherTotal);
	if (!(variance > 0) || count + otherCount < SUPPORT_MIN) return 1;
	return erfc(Math.abs(count / total - otherCount / otherTotal) / Math.sqrt(2 * variance));
}

/** Corrects for how many were looked at, by Benjamini and Hochberg: among those below q, a share of q is false at most. */
export function corrected(chances: number[]): number[] {
	const order = chances.map((_, index) => index).sort((a, b) => chances[b]! - chances[a]!);
	const found = new Array<number>(chances.length);
	let least = 1;
	order.forEach((index, behind) => {
		least = Math.min(least, (chances[index]! * chances.length) / (chances.length - behind));
		found[index] = least;
	});
	return found;
}

/** The complementary error function of a number that is not negative, within 1.2e-7 of its value (Numerical Recipes, 6.2). */
function erfc(x: number): number {
	const t = 1 / (1 + x / 2);
	const terms = [
		-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277
	];
	return t * Math.exp(-x * x + terms.reduceRight((sum, term) => sum * t + term, 0));
}
