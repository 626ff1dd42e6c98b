/** What all pages have in common, and what goes along from one to the next: which time, whose spans, and how lively. */
import { field, flag, list, oneOf, type Codec, type StateOf } from './codec';

export const RANGE_PRESETS = ['15m', '1h', '6h', '24h', '7d'] as const;
export type RangePreset = (typeof RANGE_PRESETS)[number];
const RANGE_MILLIS: Record<RangePreset, number> = {
	'15m': 15 * 60_000,
	'1h': 3_600_000,
	'6h': 6 * 3_600_000,
	'24h': 24 * 3_600_000,
	'7d': 7 * 24 * 3_600_000
};

/** A preset counted back from now, or two fixed ends (RFC 3339; an empty end means now). */
export type TimeRange = { preset: RangePreset } | { start: string; end: string };

const preset = oneOf('range', RANGE_PRESETS, '1h');

const range: Codec<TimeRange> = {
	initial: { preset: preset.initial },
	names: [...preset.names, 'start', 'end'],
	read: (params) => {
		const start = params.get('start');
		return start ? { start, end: params.get('end') ?? '' } : { preset: preset.read(params) };
	},
	write: (value, params) => {
		if ('preset' in value) return preset.write(value.preset, params);
		params.set('start', value.start);
		if (value.end) params.set('end', value.end);
	}
};

export const between = (fromMillis: number, toMillis: number): TimeRange => ({
	start: new Date(fromMillis).toISOString(),
	end: new Date(Math.ceil(toMillis)).toISOString()
});

const ZOOMS_KEPT_MAX = 8;

/** One range as one word: `6h`, or as ISO 8601 has it, `start/end`. */
const printRange = (value: TimeRange) => ('preset' in value ? value.preset : `${value.start}/${value.end}`);

function parseRange(said: string): TimeRange | null {
	const known = RANGE_PRESETS.find((item) => item === said);
	if (known) return { preset: known };
	const [start = '', end, ...more] = said.split('/');
	return isTime(start) && (end === '' || isTime(end)) && more.length === 0 ? { start, end } : null;
}

const isTime = (said: string | undefined): said is string => said !== undefined && !Number.isNaN(Date.parse(said));

export const SCOPE = {
	range,
	/** The ranges that were zoomed out of sight, the last one last. */
	zoomedFrom: list<TimeRange>(
		'from',
		(said) => said.flatMap((item) => parseRange(item) ?? []).slice(-ZOOMS_KEPT_MAX),
		printRange
	),
	/** The moment that counts as now; empty for the present one. */
	asOf: field('at', '', (said) => (isTime(said) ? said : undefined)),
	/** As the server takes it: one, several as `a|b`, empty for that of those who name none. */
	tenant: field('tenant', '', (said) => said.trim()),
	live: flag('live')
};
export type Scope = StateOf<typeof SCOPE>;

/** What is kept for each tenant by itself is asked of one alone. */
export const isOfOneTenant = ({ tenant }: Pick<Scope, 'tenant'>): boolean => !tenant.includes('|');

/** A part of the range, from which one can go back. */
export function zoomInto(scope: Scope, part: TimeRange): Partial<Scope> {
	const isKept = parseRange(printRange(scope.range)) !== null;
	return { range: part, zoomedFrom: [...scope.zoomedFrom, ...(isKept ? [scope.range] : [])].slice(-ZOOMS_KEPT_MAX) };
}

export function zoomOut({ range: shown, zoomedFrom }: Scope): Partial<Scope> {
	return { range: zoomedFrom.at(-1) ?? shown, zoomedFrom: zoomedFrom.slice(0, -1) };
}

/** Another range than the one that was zoomed into. */
export const choose = (chosen: TimeRange): Partial<Scope> => ({ range: chosen, zoomedFrom: [] });

/** The next longer preset to look further back; null when there is none. */
export function widerPreset({ range: shown }: Scope): RangePreset | null {
	return 'preset' in shown ? (RANGE_PRESETS[RANGE_PRESETS.indexOf(shown.preset) + 1] ?? null) : '24h';
}

/** The same for whoever opens it later: both ends stay where they are. */
export function fixed({ range: shown, asOf }: Scope, nowMillis: number): Partial<Scope> {
	const isFixed = asOf !== '' || ('start' in shown && shown.end !== '');
	return { asOf: isFixed ? asOf : new Date(nowMillis).toISOString(), live: false };
}

/** The range as the API takes it; an end is named where it is not the present moment. */
export function resolve({ range: shown, asOf }: Pick<Scope, 'range' | 'asOf'>, nowMillis: number): { start: string; end: string } {
	if (!('preset' in shown)) return { start: shown.start, end: shown.end || asOf };
	const moment = asOf === '' ? nowMillis : Date.parse(asOf);
	return { start: new Date(moment - RANGE_MILLIS[shown.preset]).toISOString(), end: asOf };
}
