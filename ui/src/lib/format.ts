/** How figures are written everywhere: three significant digits, a unit on each, tabular where they line up. */

const MICROSECOND = 1e3;
const MILLISECOND = 1e6;
const SECOND = 1e9;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

function threeDigits(value: number): string {
	if (value >= 99.95) return String(Math.round(value));
	if (value >= 9.995) return trimZeros(value.toFixed(1));
	return trimZeros(value.toFixed(2));
}

function trimZeros(text: string): string {
	return text.replace(/\.?0+$/, '');
}

/** Nanoseconds as `850 ns`, `12.5 µs`, `12.5 ms`, `1.25 s`, `2m 05s`, `1h 02m`, `3d 04h`. */
export function formatDuration(nanos: number): string {
	if (!Number.isFinite(nanos)) return '–';
	if (nanos < 0) return `-${formatDuration(-nanos)}`;
	if (nanos === 0) return '0';
	if (nanos < MICROSECOND) return `${Math.round(nanos)} ns`;
	if (nanos < MILLISECOND * 0.9995) return `${threeDigits(nanos / MICROSECOND)} µs`;
	if (nanos < SECOND * 0.9995) return `${threeDigits(nanos / MILLISECOND)} ms`;
	if (nanos < MINUTE * 0.9995) return `${threeDigits(nanos / SECOND)} s`;
	if (nanos < HOUR) return pair(nanos, MINUTE, 'm', SECOND, 's');
	if (nanos < DAY) return pair(nanos, HOUR, 'h', MINUTE, 'm');
	return pair(nanos, DAY, 'd', HOUR, 'h');
}

function pair(nanos: number, big: number, bigUnit: string, small: number, smallUnit: string): string {
	const smallTotal = Math.round(nanos / small);
	const ratio = big / small;
	const whole = `${Math.floor(smallTotal / ratio)}${bigUnit}`;
	const rest = smallTotal % ratio;
	return rest === 0 ? whole : `${whole} ${String(rest).padStart(2, '0')}${smallUnit}`;
}

/** A time on an axis: as many digits as the step between ticks needs. */
export function formatTick(nanos: number, stepNanos: number): string {
	if (nanos === 0) return '0';
	const [unit, name] = tickUnit(Math.max(Math.abs(nanos), stepNanos));
	const digits = Math.max(0, Math.ceil(-Math.log10(stepNanos / unit) - 1e-9));
	return `${(nanos / unit).toFixed(Math.min(digits, 6))} ${name}`;
}

function tickUnit(nanos: number): [number, string] {
	if (nanos >= SECOND) return [SECOND, 's'];
	if (nanos >= MILLISECOND) return [MILLISECOND, 'ms'];
	if (nanos >= MICROSECOND) return [MICROSECOND, 'µs'];
	return [1, 'ns'];
}

/** `12.5ms`, `2s`, `100us` and the like in nanoseconds; a bare number means milliseconds; null when it is neither. */
export function parseDuration(text: string): number | null {
	const match = /^(\d+(?:\.\d+)?|\.\d+)\s*(ns|us|µs|ms|s|m|h)?$/.exec(text.trim());
	if (!match) return null;
	const units: Record<string, number> = {
		ns: 1,
		us: MICROSECOND,
		µs: MICROSECOND,
		ms: MILLISECOND,
		s: SECOND,
		m: MINUTE,
		h: HOUR
	};
	return Number(match[1]) * (units[match[2] ?? 'ms'] ?? MILLISECOND);
}

/** What a person typed, as the API takes it (`250` becomes `250ms`); null when it is no duration. */
export function normaliseDuration(text: string): string | null {
	const trimmed = text.trim().replace('µ', 'u').replace(/\s+/g, '');
	if (parseDuration(trimmed) === null) return null;
	return /[a-z]$/.test(trimmed) ? trimmed : `${trimmed}ms`;
}

/** `999`, `1.2k`, `3.45M`, `1.2B`. */
export function formatCount(count: number): string {
	if (count < 1000) return String(Math.round(count * 10) / 10);
	if (count < 999_500) return `${threeDigits(count / 1e3)}k`;
	if (count < 999_500_000) return `${threeDigits(count / 1e6)}M`;
	return `${threeDigits(count / 1e9)}B`;
}

/** All digits, grouped: `100,000`. */
export function formatInteger(count: number): string {
	return count.toLocaleString('en-US');
}

export function formatBytes(bytes: number): string {
	const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
	let value = bytes;
	let unit = 0;
	while (value >= 1024 && unit < units.length - 1) {
		value /= 1024;
		unit += 1;
	}
	return `${threeDigits(value)} ${units[unit]}`;
}

/** Decimal nanoseconds since the epoch to milliseconds, keeping microseconds in the fraction. */
export function nanosToMillis(unixNano: string): number {
	if (unixNano.length <= 6) return 0;
	return Number(unixNano.slice(0, -6)) + Number(unixNano.slice(-6)) / 1e6;
}

const LOCAL_DAY = new Intl.DateTimeFormat(undefined, { month: 'short', day: 'numeric' });

function pad(value: number, width = 2): string {
	return String(value).padStart(width, '0');
}

/** Whether a date can be made of it. */
function isTime(millis: number): boolean {
	return !Number.isNaN(new Date(millis).getTime());
}

/** Local clock time with milliseconds, `14:03:27.120`. */
export function formatClock(millis: number): string {
	if (!isTime(millis)) return '–';
	const date = new Date(millis);
	return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}.${pad(date.getMilliseconds(), 3)}`;
}

/** Local day, `Nov 22`. */
export function formatDay(millis: number): string {
	return isTime(millis) ? LOCAL_DAY.format(millis) : '–';
}

/** The zone that local times are in, `UTC+1`, `UTC-3:30`. */
export function formatZone(millis: number): string {
	const minutes = isTime(millis) ? -new Date(millis).getTimezoneOffset() : 0;
	if (minutes === 0) return 'UTC';
	const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
	return `UTC${minutes < 0 ? '-' : '+'}${hours}${rest === 0 ? '' : `:${pad(rest)}`}`;
}

/** A local moment to the second, where no axis tells its day and its zone: `Nov 22 14:03:27 UTC+1`. */
export function formatMoment(millis: number): string {
	return isTime(millis) ? `${formatDay(millis)} ${formatClock(millis).slice(0, 8)} ${formatZone(millis)}` : '–';
}

/** Whole local time, `2026-11-22 14:03:27.120`. */
export function formatLocal(millis: number): string {
	if (!isTime(millis)) return '–';
	const date = new Date(millis);
	return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${formatClock(millis)}`;
}

/** Universal time to the nanosecond, for tooltips. */
export function formatUtc(unixNano: string): string {
	const millis = nanosToMillis(unixNano);
	if (!isTime(millis)) return '–';
	const iso = new Date(millis).toISOString();
	return `${iso.slice(0, 19).replace('T', ' ')}.${unixNano.slice(-9).padStart(9, '0')} UTC`;
}

/** How long ago, in one unit: `just now`, `12s ago`, `5m ago`, `3h ago`, `2d ago`. */
export function formatAgo(millis: number, nowMillis: number): string {
	const seconds = Math.round((nowMillis - millis) / 1000);
	if (seconds < 2) return 'just now';
	if (seconds < 60) return `${seconds}s ago`;
	if (seconds < 3600) return `${Math.floor(seconds / 60)}m ago`;
	if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h ago`;
	return `${Math.floor(seconds / 86_400)}d ago`;
}

export function plural(count: number, one: string, many = `${one}s`): string {
	return `${formatInteger(count)} ${count === 1 ? one : many}`;
}
