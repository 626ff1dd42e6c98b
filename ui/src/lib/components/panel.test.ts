import { describe, expect, it } from 'vitest';
import { ApiError } from '$lib/api/client';
import type { AskingState } from '$lib/ask/asking.svelte';
import { viewOf } from './panel';

const error = new ApiError({ title: 'no', status: 503, detail: '' });

describe('a panel shows', () => {
	it.each<[AskingState, unknown, boolean, boolean, string, boolean]>([
		['waiting', null, false, false, 'content', false],
		['shown', {}, false, false, 'content', false],
		['partial', {}, false, false, 'content', false],
		['empty', {}, false, true, 'empty', false],
		['stale', {}, false, false, 'content', true],
		['stale', {}, false, true, 'empty', true],
		['failed', null, true, false, 'nothing', false],
		['failed', {}, true, false, 'content', false],
		['failed', {}, true, true, 'nothing', false],
		['refused', null, true, false, 'nothing', false],
		['refused', {}, true, false, 'content', false]
	])('%s with the answer %j, failed %s, empty %s: %s, old %s', (state, answer, failure, isEmpty, body, isOld) => {
		expect(viewOf({ state, answer, isEmpty, error: failure ? error : null })).toEqual({ failure, body, isOld });
	});
});
