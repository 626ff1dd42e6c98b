/** Chromium through playwright-core, and the server under test: `TRACEHOUSE_URL`, or else the mock. */
import { chromium } from 'playwright-core';
import { startMock } from '../mock/server.mjs';

const EXECUTABLE = process.env.CHROMIUM ?? '/usr/bin/chromium';

export function launch() {
	return chromium.launch({
		executablePath: EXECUTABLE,
		args: [
			'--no-sandbox',
			'--disable-gpu',
			'--disable-quic',
			'--no-first-run',
			'--disable-background-networking',
			'--disable-component-update',
			'--disable-sync'
		]
	});
}

/** The address to test, how to stop what serves it, and what only the mock can tell. */
export async function openServer() {
	const url = process.env.TRACEHOUSE_URL;
	if (url) return { url: url.replace(/\/$/, ''), isMock: false, traces: [], stop: () => undefined };
	const mock = await startMock();
	return {
		url: mock.url,
		isMock: true,
		traces: mock.traces,
		stop: () => {
			mock.server.close();
			mock.server.closeAllConnections();
		}
	};
}
