/** Waits until something happens or the signal ends the waiting; `begin` returns what takes it back. */
function wait(signal: AbortSignal, begin: (done: () => void) => () => void): Promise<void> {
	if (signal.aborted) return Promise.resolve();
	return new Promise((resolve) => {
		const done = () => {
			end();
			signal.removeEventListener('abort', done);
			resolve();
		};
		const end = begin(done);
		signal.addEventListener('abort', done);
	});
}

export function pause(millis: number, signal: AbortSignal): Promise<void> {
	return wait(signal, (done) => {
		const timer = setTimeout(done, millis);
		return () => clearTimeout(timer);
	});
}

/** Until the page is in sight, at once if it is. */
export async function seen(signal: AbortSignal): Promise<void> {
	while (document.visibilityState === 'hidden' && !signal.aborted) {
		await wait(signal, (done) => {
			document.addEventListener('visibilitychange', done);
			return () => document.removeEventListener('visibilitychange', done);
		});
	}
}
