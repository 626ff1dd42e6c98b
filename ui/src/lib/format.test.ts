import { describe, expect, it } from 'vitest';
import {
	formatAgo,
	formatBytes,
	formatClock,
	formatCount,
	formatDay,
	formatDuration,
	formatLocal,
	formatTick,
	formatUtc,
	nanosToMillis,
	normaliseDuration,
	parseDuration
} from './format';

describe('durations', () => {
	it.each([
		[0, '0'],
		[1, '1 ns'],
		[999, '999 ns'],
		[1_500, '1.5 µs'],
		[12_500_000, '12.5 ms'],
		[999_900, '1 ms'],
		[999_400_000, '999 ms'],
		[1_250_000_000, '1.25 s'],
		[59_990_000_000, '1m'],
		[125_000_000_000, '2m 05s'],
		[3_719_600_000_000, '1h 02m'],
		[273_600_000_000_000, '3d 04h'],
		[-1_500, '-1.5 µs']
	])('%d ns is written %s', (nanos, text) => expect(formatDuration(nanos)).toBe(text));

	it.each([
		['12.5ms', 12_500_000],
		['2s', 2e9],
		['100us', 100_000],
		['100µs', 100_000],
		['250', 250_000_000],
		['.5 s', 5e8],
		['', null],
		['fast', null],
		['-3ms', null],
		['3 weeks', null]
	])('%j is read as %s ns', (text, nanos) => expect(parseDuration(text)).toBe(nanos));

	it.each([
		['250', '250ms'],
		[' 1.5 s', '1.5s'],
		['3µs', '3us'],
		['soon', null]
	])('%j goes to the server as %j', (text, written) => expect(normaliseDuration(text)).toBe(written));

	it.each([
		[0, 1e6, '0'],
		[5e8, 5e8, '500 ms'],
		[1e9, 5e8, '1.0 s'],
		[2e9, 1e9, '2 s'],
		[1_250_000, 50_000, '1.25 ms']
	])('a tick at %d with step %d reads %s', (at, step, text) => expect(formatTick(at, step)).toBe(text));
});

describe('counts and times', () => {
	it.each([
		[0, '0'],
		[0.34, '0.3'],
		[999, '999'],
		[1_234, '1.23k'],
		[100_000, '100k'],
		[12_480_112, '12.5M'],
		[2_100_000_000, '2.1B']
	])('%d is counted as %s', (count, text) => expect(formatCount(count)).toBe(text));

	it('keeps microseconds of nanoseconds since the epoch', () => {
		expect(nanosToMillis('1795340698792363045')).toBeCloseTo(1795340698792.363, 2);
		expect(nanosToMillis('0')).toBe(0);
	});

	it('writes universal time to the nanosecond', () => {
		expect(formatUtc('1795340698792363045')).toBe('2026-11-22 09:44:58.792363045 UTC');
	});

	it.each([
		[500, 'just now'],
		[12_000, '12s ago'],
		[90_000, '1m ago'],
		[7_200_000, '2h ago'],
		[200_000_000, '2d ago']
	])('%d ms back is %s', (back, text) => expect(formatAgo(1e12 - back, 1e12)).toBe(text));

	it('writes bytes in binary units', () => expect(formatBytes(351_000_000)).toBe('335 MiB'));
});

it('writes a time that is none as such', () => {
	for (const millis of [NaN, Infinity, 1e300]) {
		expect([formatClock(millis), formatDay(millis), formatLocal(millis)]).toEqual(['–', '–', '–']);
	}
	expect(formatUtc('9'.repeat(40))).toBe('–');
});
