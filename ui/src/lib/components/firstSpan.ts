/** How a program in some language sends its first span here. */
export interface Language {
	name: string;
	/** It takes the address from the variables of `environmentFor`. */
	readsEnvironment: boolean;
	code: (host: string) => string;
}

export const environmentFor = (host: string) =>
	[
		`export OTEL_EXPORTER_OTLP_ENDPOINT=http://${host}:4318`,
		'export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf',
		'export OTEL_SERVICE_NAME=my-service'
	].join('\n');

const lines = (...texts: string[]) => texts.join('\n');
const INSTRUMENTATION = 'https://github.com/open-telemetry/opentelemetry-';
const LATEST = 'releases/latest/download';

/** One span, which begins now, without any program. */
const curl = (host: string) =>
	lines(
		'now=$(date +%s)000000000',
		"id=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \\n')",
		`curl http://${host}:4318/v1/traces -H 'content-type: application/json' -d '{"resourceSpans": [{`,
		`  "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "my-service"}}]},`,
		`  "scopeSpans": [{"spans": [{"traceId": "'$id'", "spanId": "'\${id%????????????????}'", "name": "hello", "kind": 1,`,
		`    "startTimeUnixNano": "'$now'", "endTimeUnixNano": "'$now'"}]}]}]}'`
	);

export const LANGUAGES: readonly Language[] = [
	{
		name: 'Python',
		readsEnvironment: true,
		code: () =>
			lines(
				'pip install opentelemetry-distro opentelemetry-exporter-otlp',
				'opentelemetry-bootstrap --action=install',
				'opentelemetry-instrument python app.py'
			)
	},
	{
		name: 'Node.js',
		readsEnvironment: true,
		code: () =>
			lines(
				'npm install @opentelemetry/api @opentelemetry/auto-instrumentations-node',
				'node --require @opentelemetry/auto-instrumentations-node/register app.js'
			)
	},
	{
		name: 'Java',
		readsEnvironment: true,
		code: () =>
			lines(
				`curl -LO ${INSTRUMENTATION}java-instrumentation/${LATEST}/opentelemetry-javaagent.jar`,
				'java -javaagent:opentelemetry-javaagent.jar -jar app.jar'
			)
	},
	{
		name: '.NET',
		readsEnvironment: true,
		code: () =>
			lines(
				`curl -sSfLO ${INSTRUMENTATION}dotnet-instrumentation/${LATEST}/otel-dotnet-auto-install.sh`,
				'sh ./otel-dotnet-auto-install.sh',
				'. $HOME/.otel-dotnet-auto/instrument.sh',
				'dotnet run'
			)
	},
	{
		name: 'Go',
		readsEnvironment: true,
		code: () =>
			lines(
				'// go get go.opentelemetry.io/otel/{sdk,exporters/otlp/otlptrace/otlptracehttp}',
				'exporter, err := otlptracehttp.New(ctx)',
				'if err != nil { log.Fatal(err) }',
				'provider := trace.NewTracerProvider(trace.WithBatcher(exporter))',
				'defer provider.Shutdown(ctx)',
				'_, span := provider.Tracer("first").Start(ctx, "hello")',
				'span.End()'
			)
	},
	{ name: 'curl', readsEnvironment: false, code: curl }
];
