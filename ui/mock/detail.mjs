/** The whole of one span, made up from its shape; the same span always gets the same answer. */
import { Random } from './random.mjs';

const KIND_NAMES = ['unspecified', 'internal', 'server', 'client', 'producer', 'consumer'];
const STATUS_NAMES = ['unset', 'ok', 'error'];

const string = (key, value) => ({ key, type: 'string', value });
const int = (key, value) => ({ key, type: 'int', value: String(value) });

const STACK = `java.sql.SQLTransientConnectionException: HikariPool-1 - Connection is not available, request timed out after 30000ms (total=10, active=10, idle=0, waiting=24)
	at com.zaxxer.hikari.pool.HikariPool.createTimeoutException(HikariPool.java:696)
	at com.zaxxer.hikari.pool.HikariPool.getConnection(HikariPool.java:197)
	at com.zaxxer.hikari.HikariDataSource.getConnection(HikariDataSource.java:100)
	at shop.payment.store.ChargeRepository.insert(ChargeRepository.kt:58)
	at shop.payment.ChargeService.charge(ChargeService.kt:112)
	at shop.payment.http.PaymentRoutes$configure$1.invokeSuspend(PaymentRoutes.kt:41)
	at kotlin.coroutines.jvm.internal.BaseContinuationImpl.resumeWith(ContinuationImpl.kt:33)
	at kotlinx.coroutines.DispatchedTask.run(DispatchedTask.kt:104)
	at kotlinx.coroutines.scheduling.CoroutineScheduler.runSafely(CoroutineScheduler.kt:584)
	at java.base/java.lang.Thread.run(Thread.java:1583)
Caused by: java.net.SocketTimeoutException: connect timed out
	at java.base/sun.nio.ch.NioSocketImpl.timedFinishConnect(NioSocketImpl.java:546)
	... 14 more`;

function attributesOf(span, random) {
	const list = [];
	const database = /^(SELECT|INSERT) (\w+)/.exec(span.name);
	const route = /^(GET|POST) (\/.*)/.exec(span.name);
	if (route) {
		list.push(
			string('http.request.method', route[1]),
			string('http.route', route[2]),
			int('http.response.status_code', span.status === 2 ? 503 : 200),
			string('url.scheme', 'https'),
			string('url.path', route[2].replace('{id}', String(1000 + random.below(9000)))),
			string('client.address', `10.42.${random.below(255)}.${random.below(255)}`),
			string('user_agent.original', 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36')
		);
	} else if (database) {
		list.push(
			string('db.system.name', 'postgresql'),
			string('db.namespace', 'shop'),
			string('db.operation.name', database[1]),
			string('db.query.text', `${database[1]} * FROM ${database[2]} WHERE tenant_id = $1 AND id = ANY($2) ORDER BY updated_at DESC LIMIT 50`),
			string('server.address', 'pg-main.shop.svc'),
			int('server.port', 5432),
			int('db.response.returned_rows', random.below(50))
		);
	} else if (span.name.startsWith('HGETALL')) {
		list.push(string('db.system.name', 'redis'), string('server.address', 'redis-0.shop.svc'), int('server.port', 6379));
	} else if (/publish|consume/.test(span.name)) {
		list.push(string('messaging.system', 'kafka'), string('messaging.destination.name', 'order.placed'), int('messaging.kafka.offset', random.below(1e6)));
	}
	list.push(int('thread.id', 20 + random.below(60)), { key: 'app.cache_hit', type: 'bool', value: random.chance(0.5) });
	list.push({ key: 'app.score', type: 'double', value: Math.round(random.next() * 1e4) / 1e4 });
	if (span.parent === -1) {
		list.push({ key: 'app.experiments', type: 'array', value: ['new-checkout', 'fast-search', 'blue-button'] });
		list.push({ key: 'app.user', type: 'kvlist', value: { id: 'u-48213', plan: 'gold', flags: { beta: true } } });
		list.push({ key: 'app.token_hash', type: 'bytes', value: 'q83vEjRWeJCrze8=' });
		list.push(string('app.request_body', JSON.stringify({ items: Array.from({ length: 260 }, (_, item) => ({ sku: `SKU-${1000 + item}`, quantity: (item % 3) + 1, note: 'gift wrapping' })) })));
	}
	return list;
}

function resourceOf(span) {
	return {
		attributes: [
			string('service.name', span.service),
			string('service.version', '2.14.3'),
			string('service.instance.id', `${span.service}-7d9f8b6c5-x2k4p`),
			string('deployment.environment.name', 'production'),
			string('k8s.namespace.name', 'shop'),
			string('k8s.pod.name', `${span.service}-7d9f8b6c5-x2k4p`),
			string('k8s.node.name', 'ip-10-42-7-118'),
			string('cloud.region', 'eu-central-1'),
			string('host.arch', 'arm64'),
			string('telemetry.sdk.language', 'java'),
			string('telemetry.sdk.version', '1.54.0'),
			int('process.pid', 1)
		],
		schemaUrl: 'https://opentelemetry.io/schemas/1.37.0',
		droppedAttributesCount: 0
	};
}

function eventsOf(trace, span, random) {
	const events = [];
	for (let index = 0; index < span.events; index += 1) {
		const at = trace.startNanos + BigInt(Math.round(span.start + (span.duration * (index + 1)) / (span.events + 1)));
		const exception = span.exception === 1 && index === span.events - 1;
		events.push({
			timeUnixNano: String(at),
			name: exception ? 'exception' : random.pick(['cache miss', 'retry', 'feature flag evaluated']),
			attributes: exception
				? [string('exception.type', 'java.sql.SQLTransientConnectionException'), string('exception.message', STACK.split('\n')[0].split(': ').slice(1).join(': ')), string('exception.stacktrace', STACK), { key: 'exception.escaped', type: 'bool', value: false }]
				: [int('attempt', index + 1), string('cache.name', 'products')],
			droppedAttributesCount: 0
		});
	}
	return events;
}

export function spanDetail(trace, index, otherTraceId) {
	const span = trace.spans[index];
	const random = new Random(parseInt(span.id.slice(0, 8), 16));
	return {
		traceId: trace.traceId,
		spanId: span.id,
		parentSpanId: span.parentId ?? (span.parent >= 0 ? trace.spans[span.parent].id : ''),
		name: span.name,
		serviceName: span.service,
		kind: KIND_NAMES[span.kind],
		status: { code: STATUS_NAMES[span.status], message: span.status === 2 ? 'connection pool exhausted' : '' },
		startTimeUnixNano: String(trace.startNanos + BigInt(span.start)),
		durationNanos: span.duration,
		attributes: attributesOf(span, random),
		resource: resourceOf(span),
		scope: { name: 'io.opentelemetry.ktor-3.0', version: '2.21.0-alpha', attributes: [], schemaUrl: '', droppedAttributesCount: 0 },
		events: eventsOf(trace, span, random),
		links: Array.from({ length: span.links }, () => ({ traceId: otherTraceId, spanId: random.hex(16), traceState: '', flags: 1, attributes: [string('messaging.batch', 'order.placed-17')], droppedAttributesCount: 0 })),
		traceState: 'ot=th:c;rv:9f2a6c01d4e8b7',
		flags: 257,
		droppedAttributesCount: span.parent === -1 ? 3 : 0,
		droppedEventsCount: 0,
		droppedLinksCount: 0,
		adjustedCount: 4,
		marks: span.parent === -2 ? ['own_parent'] : []
	};
}
