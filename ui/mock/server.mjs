/**
 * A stand-in for Tracehouse: serves `build/` and the native API with made-up traces, so that the interface can be
 * looked at and tested without a server. Plain Node, no dependencies: `node mock/server.mjs [port]`.
 */
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { compact, count, find, makeTraces, search, tail } from './data.mjs';
import { spanDetail } from './detail.mjs';
import { check, metrics } from './metrics.mjs';

const BUILD = fileURLToPath(new URL('../build', import.meta.url));
const TYPES = {
	'.html': 'text/html; charset=utf-8',
	'.js': 'text/javascript; charset=utf-8',
	'.css': 'text/css; charset=utf-8',
	'.svg': 'image/svg+xml',
	'.json': 'application/json',
	'.woff2': 'font/woff2'
};

class HttpProblem extends Error {
	constructor(status, title, detail) {
		super(detail);
		this.problem = { type: 'about:blank', title, status, detail };
	}
}

function send(response, status, type, body, request, headers = {}) {
	const gzip = body.length > 1024 && /\bgzip\b/.test(request.headers['accept-encoding'] ?? '') && !type.startsWith('font');
	response.writeHead(status, { 'content-type': type, ...(gzip && { 'content-encoding': 'gzip' }), ...headers });
	response.end(gzip ? gzipSync(body, { level: 1 }) : body);
}

function attributeKeys() {
	const span = ['http.route', 'http.request.method', 'http.response.status_code', 'url.path', 'client.address', 'db.system.name', 'db.namespace', 'db.query.text', 'db.operation.name', 'messaging.system', 'server.address', 'server.port', 'app.cache_hit', 'app.score'];
	const resource = ['service.name', 'service.version', 'deployment.environment.name', 'k8s.namespace.name', 'k8s.pod.name', 'cloud.region'];
	return { keys: [...span.map((key) => ({ scope: 'span', key })), ...resource.map((key) => ({ scope: 'resource', key }))], complete: true };
}

function attributeValues(traces, query) {
	const key = query.get('key');
	const values = new Map();
	for (const trace of traces.slice(0, 60)) {
		for (let index = 0; index < Math.min(trace.spans.length, 40); index += 1) {
			const detail = spanDetail(trace, index, '');
			for (const item of [...detail.attributes, ...detail.resource.attributes]) {
				if (item.key === key) values.set(String(item.value), { type: item.type, value: item.value });
			}
		}
	}
	return { values: [...values.values()].slice(0, Number(query.get('limit') ?? 100)), complete: true };
}

function rendered(text, { message, start, suggestion }) {
	return `error: ${message}\n  |\n1 | ${text.split('\n')[0]}\n  | ${' '.repeat(start)}^\n  = help: ${suggestion ?? 'see the documentation'}`;
}

function traceOf(traces, id) {
	const trace = traces.find((candidate) => candidate.traceId === id);
	if (!trace) throw new HttpProblem(404, 'Trace not found', `No span of trace ${id} is stored. It may have expired, or not have arrived yet.`);
	return trace;
}

function answer(state, path, query) {
	const { traces } = state;
	const [, , , head, second, third, fourth] = path.split('/');
	switch (head) {
		case 'services':
			return { services: [...new Set(traces.flatMap((trace) => trace.spans.slice(0, 200).map((span) => span.service)))].sort().map((name) => ({ name })), complete: true };
		case 'operations': {
			const wanted = query.get('service');
			const spans = traces.flatMap((trace) => trace.spans.slice(0, 200)).filter((span) => !wanted || span.service === wanted);
			return { operations: [...new Set(spans.map((span) => span.name))].sort(), complete: true };
		}
		case 'attributes':
			return second === 'keys' ? attributeKeys() : attributeValues(traces, query);
		case 'query':
			return check(query.get('q') ?? '');
		case 'search':
		case 'tail':
		case 'metrics':
			try {
				const checked = query.has('q') ? check(query.get('q')) : { valid: true };
				if (!checked.valid) throw new Error(rendered(query.get('q'), checked.error));
				if (head === 'metrics') return metrics(traces, query);
				if (head === 'tail') return tail(traces, query, Date.now());
				return (second === 'count' ? count : search)(traces, query, Date.now());
			} catch (error) {
				throw new HttpProblem(400, 'The search cannot be read', error.message);
			}
		case 'traces': {
			const trace = traceOf(traces, second);
			if (!third) return (trace.compact ??= compact(trace));
			if (third === 'find') return find(trace, query.get('q') ?? '');
			const index = trace.spans.findIndex((span) => span.id === fourth);
			if (index === -1) throw new HttpProblem(404, 'Span not found', `Trace ${second} holds no span ${fourth}.`);
			return spanDetail(trace, index, traces[40].traceId);
		}
		case 'status':
			return { version: '0.1.0', tenant: 'default', spansStored: traces.length === 0 ? 0 : 12_480_112, spansHot: traces.length === 0 ? 0 : 48_200, files: 214, bytesStored: 351_000_000, uptimeNanos: 8.1e12, ingestSpansPerSecond: traces.length === 0 ? 0 : 342.7, troubles: [] };
		default:
			throw new HttpProblem(404, 'No such endpoint', `${path} is not part of the API.`);
	}
}

/** Keeps what is saved until the stand-in ends. */
function savedQueries(saved, { method, headers }, name, body) {
	if (method === 'GET') return { queries: [...saved.values()].sort((a, b) => (a.name < b.name ? -1 : 1)), limit: 500 };
	if (method === 'DELETE') {
		if (!saved.delete(name)) throw new HttpProblem(404, 'Not found', 'No query is saved under this name; somebody may have removed it.');
		return null;
	}
	if (saved.has(name) && headers['if-none-match'] === '*') throw new HttpProblem(412, 'It exists already', 'Choose another name.');
	const { description = '', address, ...unknown } = JSON.parse(body);
	if (Object.keys(unknown).length > 0) throw new HttpProblem(400, 'The query is wrong', `unknown fields: ${Object.keys(unknown)}`);
	saved.set(name, { name, description, address, savedTimeUnixNano: `${Date.now()}000000` });
	return saved.get(name);
}

async function bodyOf(request) {
	let text = '';
	for await (const part of request) text += part;
	return text;
}

async function serveFile(request, response, path) {
	const wanted = normalize(path).replace(/^(\.\.[/\\])+/, '');
	const isPage = extname(wanted) === '';
	const file = isPage ? join(BUILD, 'index.html') : join(BUILD, wanted);
	try {
		const body = await readFile(file);
		const forever = wanted.includes('/immutable/') ? 'public, max-age=31536000, immutable' : 'no-cache';
		send(response, 200, TYPES[extname(file)] ?? 'application/octet-stream', body, request, { 'cache-control': forever });
	} catch {
		send(response, 404, 'text/plain', Buffer.from('not found'), request);
	}
}

/** Starts the mock; port 0 takes a free one. `empty` serves a house without spans. */
export function startMock({ port = 0, empty = false } = {}) {
	const state = { traces: empty ? [] : makeTraces(Date.now()), saved: new Map() };
	const server = createServer(async (request, response) => {
		const url = new URL(request.url, 'http://mock');
		if (!url.pathname.startsWith('/api/')) return void serveFile(request, response, url.pathname);
		let status = 200;
		let body;
		try {
			body = url.pathname.startsWith('/api/v1/saved-queries')
				? savedQueries(state.saved, request, decodeURIComponent(url.pathname.split('/')[4] ?? ''), await bodyOf(request))
				: answer(state, url.pathname, url.searchParams);
			if (body === null) return void response.writeHead(204).end();
		} catch (error) {
			if (!(error instanceof HttpProblem)) throw error;
			status = error.problem.status;
			body = error.problem;
		}
		const type = status === 200 ? 'application/json' : 'application/problem+json';
		send(response, status, type, Buffer.from(JSON.stringify(body)), request);
	});
	return new Promise((resolve) => {
		server.listen(port, '127.0.0.1', () => {
			resolve({ server, traces: state.traces, url: `http://127.0.0.1:${server.address().port}` });
		});
	});
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
	const { url, traces } = await startMock({ port: Number(process.argv[2] ?? 3299), empty: process.argv.includes('--empty') });
	process.stdout.write(`mock at ${url}\n`);
	const giant = traces.find((trace) => trace.spans.length >= 100_000);
	if (giant) process.stdout.write(`100,000 spans: ${url}/trace/${giant.traceId}\n`);
}
