/** Values of an answer as the type they should have; what is missing or something else reads as empty. */
export type Fields = Record<string, unknown>;

export function fields(value: unknown): Fields {
	return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

export function list(value: unknown): unknown[] {
	return Array.isArray(value) ? value : [];
}

export function text(value: unknown): string {
	if (typeof value === 'string') return value;
	return typeof value === 'number' || typeof value === 'boolean' ? String(value) : '';
}

export function textOrNull(value: unknown): string | null {
	return text(value) || null;
}

/** A finite number, for nothing on the screen has a place for another. */
export function number(value: unknown, otherwise = 0): number {
	const read = typeof value === 'string' && value !== '' ? Number(value) : value;
	return typeof read === 'number' && Number.isFinite(read) ? read : otherwise;
}

/** JSON has no infinity, so it comes as a text, which reads as the number. */
export function numberOrNull(value: unknown): number | null {
	if (typeof value !== 'number' && typeof value !== 'string') return null;
	return value === '' ? null : Number(value);
}

/** Decimal nanoseconds since the epoch, of which a date can be made. */
export function nanos(value: unknown): string {
	const read = text(value);
	return /^\d{1,20}$/.test(read) ? read : '0';
}

export function oneOf<T extends string>(value: unknown, allowed: readonly T[], otherwise: T): T {
	return allowed.find((item) => item === value) ?? otherwise;
}

/** A column of so many numbers; what is none reads as `otherwise`. The array is changed in place: columns are long. */
export function numbers(value: unknown, length: number, otherwise = 0): number[] {
	const column = list(value);
	column.length = length;
	for (let row = 0; row < length; row += 1) {
		const item = column[row];
		if (typeof item !== 'number' || !Number.isFinite(item)) column[row] = number(item, otherwise);
	}
	return column as number[];
}

export function texts(value: unknown, length = list(value).length): string[] {
	const column = list(value);
	column.length = length;
	for (let row = 0; row < length; row += 1) if (typeof column[row] !== 'string') column[row] = text(column[row]);
	return column as string[];
}
