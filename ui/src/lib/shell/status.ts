import { here } from '$lib/address/here';
import { isOfOneTenant } from '$lib/address/scope';
import { Round } from '$lib/ask/round';

const POLL_MILLIS = 5_000;
const round = new Round();

/** What the server says of itself. */
export const serverStatus = round.panel(() => (isOfOneTenant(here.scope) ? here.api.status() : null));

/** Asks every few seconds while the page is in sight; returns what stops it. */
export const watchStatus = () => round.begin(POLL_MILLIS);
