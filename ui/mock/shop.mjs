/** The simulated shop: which service calls which, how long it takes, what its spans carry. */
const MS = 1e6;

const DEPENDENCIES = {
	'GET /': { service: 'gateway', median: 18, calls: ['GET /recommendations', 'GET /products', 'GET /ads'] },
	'GET /products/{id}': { service: 'gateway', median: 12, calls: ['GET /products', 'GET /reviews', 'GET /stock'] },
	'POST /checkout': {
		service: 'gateway',
		median: 35,
		calls: ['GET /cart', 'POST /orders', 'POST /payments', 'publish order.placed']
	},
	'GET /cart': { service: 'cart', median: 6, calls: ['HGETALL cart', 'GET /stock'] },
	'GET /search': { service: 'search', median: 24, calls: ['index.query', 'GET /products'] },
	'GET /recommendations': { service: 'recommendation', median: 15, calls: ['model.predict', 'GET /products'] },
	'GET /products': { service: 'catalogue', median: 8, calls: ['SELECT products', 'SELECT prices'] },
	'GET /reviews': { service: 'reviews', median: 9, calls: ['SELECT reviews'] },
	'GET /stock': { service: 'inventory', median: 5, calls: ['SELECT stock'] },
	'GET /ads': { service: 'ads', median: 4, calls: [] },
	'POST /orders': { service: 'orders', median: 14, calls: ['INSERT orders', 'GET /stock', 'POST /shipping/quote'] },
	'POST /payments': { service: 'payment', median: 40, calls: ['fraud.score', 'charge card'] },
	'POST /shipping/quote': { service: 'shipping', median: 11, calls: ['GET /addresses'] },
	'GET /addresses': { service: 'address-lookup', median: 6, calls: [] },
	'fraud.score': { service: 'fraud', median: 21, calls: ['model.predict'] },
	'charge card': { service: 'payment-provider', median: 65, calls: [] },
	'model.predict': { service: 'feature-store', median: 7, calls: ['HGETALL features'] },
	'index.query': { service: 'search-index', median: 13, calls: [] },
	'publish order.placed': { service: 'orders', median: 2, calls: ['consume order.placed'] },
	'consume order.placed': { service: 'email', median: 30, calls: ['render template', 'smtp send'] },
	'render template': { service: 'email', median: 4, calls: [] },
	'smtp send': { service: 'email', median: 22, calls: [] },
	'HGETALL cart': { service: 'cart', median: 1, calls: [] },
	'HGETALL features': { service: 'feature-store', median: 1, calls: [] },
	'SELECT products': { service: 'catalogue', median: 3, calls: [] },
	'SELECT prices': { service: 'catalogue', median: 2, calls: [] },
	'SELECT reviews': { service: 'reviews', median: 3, calls: [] },
	'SELECT stock': { service: 'inventory', median: 2, calls: [] },
	'INSERT orders': { service: 'orders', median: 4, calls: [] }
};

export const ROOTS = ['GET /', 'GET /', 'GET /products/{id}', 'GET /products/{id}', 'GET /search', 'POST /checkout', 'GET /cart'];

const KIND = { unspecified: 0, internal: 1, server: 2, client: 3, producer: 4, consumer: 5 };

/** What calls are about whose names do not say it. */
const TARGETS = { 'charge card': 'api.payments.example/v1/charges', 'smtp send': 'smtp.shop.svc' };

function kindOf(operation) {
	if (/^(GET|POST) \//.test(operation)) return KIND.server;
	if (operation.startsWith('publish')) return KIND.producer;
	if (operation.startsWith('consume')) return KIND.consumer;
	if (/^(SELECT|INSERT|HGETALL|charge|smtp)/.test(operation)) return KIND.client;
	return KIND.internal;
}

/** One trace as a list of spans in pre-order. `failAt` names an operation that fails. */
export function shopTrace(random, startMillis, operation, options = {}) {
	const trace = {
		traceId: random.hex(32),
		startNanos: BigInt(Math.round(startMillis)) * 1_000_000n + BigInt(random.below(1e6)),
		spans: []
	};
	const slow = options.slow ?? 1;
	addSpan(trace, random, operation, -1, 0, 0, slow, options);
	finish(trace);
	return trace;
}

function addSpan(trace, random, operation, parent, start, depth, slow, options) {
	const shape = DEPENDENCIES[operation];
	const index = trace.spans.length;
	const span = {
		id: random.hex(16),
		parent,
		service: shape.service,
		name: operation,
		target: TARGETS[operation],
		kind: kindOf(operation),
		status: 0,
		start,
		duration: 0,
		events: 0,
		links: 0,
		exception: 0
	};
	trace.spans.push(span);
	let at = start + random.lognormal(shape.median * 0.15 * MS, 0.4);
	let end = at;
	const parallel = random.chance(0.35);
	for (const call of shape.calls) {
		if (depth > 8 || random.chance(0.06)) continue;
		const repeats = call === options.repeat ? 24 : 1;
		for (let time = 0; time < repeats; time += 1) {
			const child = addSpan(trace, random, call, index, at, depth + 1, slow, options);
			end = Math.max(end, child.start + child.duration);
			at = parallel && repeats === 1 ? at + random.lognormal(0.3 * MS, 0.5) : end + random.lognormal(0.2 * MS, 0.6);
			if (child.status === 2 && random.chance(0.8)) span.status = 2;
		}
	}
	const own = random.lognormal(shape.median * 0.5 * MS, 0.7) * (operation === options.slowAt ? slow : 1);
	span.duration = Math.round(end - start + own);
	span.start = Math.round(start);
	if (operation === options.failAt) {
		span.status = 2;
		span.exception = 1;
		span.events = 2;
	} else if (random.chance(0.06)) span.events = 1 + random.below(3);
	if (span.kind === KIND.consumer) span.links = 1;
	return span;
}

/** Sets what follows from the spans. */
export function finish(trace) {
	trace.durationNanos = Math.max(...trace.spans.slice(0, 5000).map((span) => span.start + span.duration), 1);
	for (const span of trace.spans) trace.durationNanos = Math.max(trace.durationNanos, span.start + span.duration);
	trace.errorCount = trace.spans.filter((span) => span.status === 2).length;
}

/** A nightly batch with a given number of spans, several levels deep. */
export function batchTrace(random, startMillis, spanCount) {
	const trace = { traceId: random.hex(32), startNanos: BigInt(Math.round(startMillis)) * 1_000_000n, spans: [] };
	const push = (service, name, kind, parent, start, duration, status = 0) => {
		trace.spans.push({
			id: random.hex(16),
			parent,
			service,
			name,
			kind,
			status,
			start: Math.round(start),
			duration: Math.round(duration),
			events: status === 2 ? 1 : 0,
			links: 0,
			exception: status === 2 ? 1 : 0
		});
		return trace.spans.length - 1;
	};
	const root = push('nightly-billing', 'run billing cycle', KIND.internal, -1, 0, 0);
	let at = 5 * MS;
	let chunk = 0;
	while (trace.spans.length < spanCount) {
		const chunkIndex = push('nightly-billing', `bill customers chunk`, KIND.internal, root, at, 0);
		let inner = at + 0.4 * MS;
		for (let customer = 0; customer < 120 && trace.spans.length < spanCount; customer += 1) {
			const begun = inner;
			const failed = random.chance(0.002);
			const one = push('billing', 'bill customer', KIND.server, chunkIndex, begun, 0, failed ? 2 : 0);
			for (const [service, name, kind, median] of [
				['billing', 'SELECT usage', KIND.client, 1.2],
				['pricing', 'price usage', KIND.server, 2.5],
				['billing', 'INSERT invoice', KIND.client, 1.6],
				['invoice-render', 'render pdf', KIND.consumer, 5]
			]) {
				const duration = random.lognormal(median * MS, 0.6);
				push(service, name, kind, one, inner, duration, failed && name === 'INSERT invoice' ? 2 : 0);
				inner += duration + 0.05 * MS;
			}
			trace.spans[one].duration = Math.round(inner - begun);
		}
		trace.spans[chunkIndex].duration = Math.round(inner - at);
		at = chunk % 3 === 2 ? inner + 20 * MS : at + (inner - at) * 0.55;
		chunk += 1;
	}
	let end = 0;
	for (const span of trace.spans) end = Math.max(end, span.start + span.duration);
	trace.spans[root].duration = end;
	finish(trace);
	return trace;
}

/** A trace of which some parents never arrived. */
export function orphanedTrace(random, startMillis) {
	const trace = shopTrace(random, startMillis, 'POST /checkout');
	const lost = trace.spans.findIndex((span) => span.name === 'POST /orders');
	const alsoLost = trace.spans.findIndex((span) => span.name === 'POST /payments');
	for (const gone of [lost, alsoLost].sort((a, b) => b - a)) if (gone > 0) drop(trace, gone);
	finish(trace);
	return trace;
}

function drop(trace, gone) {
	const [span] = trace.spans.splice(gone, 1);
	for (const other of trace.spans) {
		if (other.parent === gone) {
			other.parent = -2;
			other.parentId = span.id;
		} else if (other.parent > gone) other.parent -= 1;
	}
}
