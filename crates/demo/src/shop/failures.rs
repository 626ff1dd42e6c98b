//! How things fail: status codes, error types, messages and stack traces as each runtime prints them.

use super::Language;

/// A failure that starts somewhere, as opposed to one passed on by a caller.
pub struct Fault {
    pub http_status: u16,
    /// Canonical gRPC code (2 UNKNOWN, 5 NOT_FOUND, 8 RESOURCE_EXHAUSTED, 9 FAILED_PRECONDITION, 13 INTERNAL, 14 UNAVAILABLE …).
    pub grpc_code: u8,
    pub error_type: &'static str,
    pub message: &'static str,
    /// Empty where nothing is thrown.
    pub stacktrace: &'static str,
    /// How long the failing side waited before it gave up.
    pub stall_ms: u32,
}

pub static NOT_FOUND: Fault = Fault {
    http_status: 404,
    grpc_code: 5,
    error_type: "404",
    message: "product not found",
    stacktrace: "",
    stall_ms: 0,
};

pub static WRONG_PASSWORD: Fault = Fault {
    http_status: 401,
    grpc_code: 16,
    error_type: "401",
    message: "wrong login or password",
    stacktrace: "",
    stall_ms: 0,
};

pub static CARD_DECLINED: Fault = Fault {
    http_status: 402,
    grpc_code: 9,
    error_type: "card_declined",
    message: "card declined by issuer: insufficient funds",
    stacktrace: "",
    stall_ms: 0,
};

pub static PROVIDER_OVERLOADED: Fault = Fault {
    http_status: 503,
    grpc_code: 14,
    error_type: "503",
    message: "upstream provider overloaded",
    stacktrace: "",
    stall_ms: 0,
};

pub static THIRD_PARTY_DOWN: Fault =
    Fault { http_status: 502, grpc_code: 14, error_type: "502", message: "bad gateway", stacktrace: "", stall_ms: 40 };

pub static SEARCH_TIMEOUT: Fault = Fault {
    http_status: 504,
    grpc_code: 4,
    error_type: "java.net.SocketTimeoutException",
    message: "1,500 milliseconds timeout on connection http-outgoing-41 [ACTIVE]",
    stacktrace: "java.net.SocketTimeoutException: 1,500 milliseconds timeout on connection http-outgoing-41 [ACTIVE]\n\
\tat org.elasticsearch.client.RestClient.extractAndWrapCause(RestClient.java:955)\n\
\tat org.elasticsearch.client.RestClient.performRequest(RestClient.java:332)\n\
\tat org.elasticsearch.client.RestClient.performRequest(RestClient.java:314)\n\
\tat goods.aurora.search.index.ElasticProductIndex.search(ElasticProductIndex.java:118)\n\
\tat goods.aurora.search.SearchService.findProducts(SearchService.java:64)\n\
\tat goods.aurora.search.web.SearchController.search(SearchController.java:41)\n\
\tat java.base/jdk.internal.reflect.DirectMethodHandleAccessor.invoke(DirectMethodHandleAccessor.java:103)\n\
\tat org.springframework.web.method.support.InvocableHandlerMethod.doInvoke(InvocableHandlerMethod.java:258)\n\
\tat org.springframework.web.servlet.DispatcherServlet.doDispatch(DispatcherServlet.java:1088)\n\
\tat org.apache.catalina.core.StandardWrapperValve.invoke(StandardWrapperValve.java:167)\n\
\tat java.base/java.lang.Thread.run(Thread.java:1583)\n\
Caused by: java.net.SocketTimeoutException: 1,500 milliseconds timeout on connection http-outgoing-41 [ACTIVE]\n\
\tat org.apache.http.nio.protocol.HttpAsyncRequestExecutor.timeout(HttpAsyncRequestExecutor.java:387)\n\
\tat org.apache.http.impl.nio.client.InternalIODispatch.onTimeout(InternalIODispatch.java:92)\n\
\tat org.apache.http.impl.nio.reactor.AbstractIODispatch.timeout(AbstractIODispatch.java:175)\n\
\t... 1 more\n",
    stall_ms: 1500,
};

pub static STOCK_CONFLICT: Fault = Fault {
    http_status: 500,
    grpc_code: 13,
    error_type: "org.hibernate.StaleObjectStateException",
    message: "Row was updated or deleted by another transaction: [goods.aurora.inventory.StockLevel#4471]",
    stacktrace: "org.hibernate.StaleObjectStateException: Row was updated or deleted by another transaction: [goods.aurora.inventory.StockLevel#4471]\n\
\tat org.hibernate.persister.entity.AbstractEntityPersister.check(AbstractEntityPersister.java:2651)\n\
\tat org.hibernate.engine.jdbc.batch.internal.BatchImpl.execute(BatchImpl.java:192)\n\
\tat org.hibernate.internal.SessionImpl.flushBeforeTransactionCompletion(SessionImpl.java:2056)\n\
\tat goods.aurora.inventory.ReservationService.reserve(ReservationService.java:97)\n\
\tat goods.aurora.inventory.grpc.InventoryEndpoint.reserve(InventoryEndpoint.java:52)\n\
\tat io.grpc.stub.ServerCalls$UnaryServerCallHandler$UnaryServerCallListener.onHalfClose(ServerCalls.java:182)\n\
\tat io.grpc.internal.ServerCallImpl$ServerStreamListenerImpl.halfClosed(ServerCallImpl.java:351)\n\
\tat io.grpc.internal.SerializingExecutor.run(SerializingExecutor.java:133)\n\
\tat java.base/java.util.concurrent.ThreadPoolExecutor.runWorker(ThreadPoolExecutor.java:1144)\n\
\tat java.base/java.lang.Thread.run(Thread.java:1583)\n",
    stall_ms: 0,
};

pub static MODEL_SHAPE: Fault = Fault {
    http_status: 500,
    grpc_code: 2,
    error_type: "ValueError",
    message: "operands could not be broadcast together with shapes (1,128) (96,)",
    stacktrace: "Traceback (most recent call last):\n\
  \x20 File \"/usr/local/lib/python3.13/site-packages/starlette/routing.py\", line 74, in app\n\
  \x20   response = await func(request)\n\
  \x20 File \"/usr/local/lib/python3.13/site-packages/fastapi/routing.py\", line 301, in app\n\
  \x20   raw_response = await run_endpoint_function(\n\
  \x20 File \"/app/recommendation/api.py\", line 58, in recommend\n\
  \x20   ranked = ranker.rank(user_vector, candidates)\n\
  \x20 File \"/app/recommendation/ranker.py\", line 112, in rank\n\
  \x20   scores = (user_vector * self.weights) @ candidates.T\n\
ValueError: operands could not be broadcast together with shapes (1,128) (96,)\n",
    stall_ms: 0,
};

pub static TEMPLATE_NIL: Fault = Fault {
    http_status: 500,
    grpc_code: 13,
    error_type: "NoMethodError",
    message: "undefined method 'display_name' for nil",
    stacktrace: "app/serializers/review_serializer.rb:21:in 'ReviewSerializer#author_name': undefined method 'display_name' for nil (NoMethodError)\n\
\tfrom app/serializers/review_serializer.rb:9:in 'ReviewSerializer#as_json'\n\
\tfrom app/controllers/reviews_controller.rb:17:in 'block in ReviewsController#index'\n\
\tfrom /usr/local/bundle/gems/actionpack-8.0.3/lib/action_controller/metal/basic_implicit_render.rb:8:in 'send_action'\n\
\tfrom /usr/local/bundle/gems/actionpack-8.0.3/lib/abstract_controller/base.rb:226:in 'process_action'\n\
\tfrom /usr/local/bundle/gems/rack-3.2.1/lib/rack/method_override.rb:28:in 'call'\n",
    stall_ms: 0,
};

pub static CACHE_TIMEOUT: Fault = Fault {
    http_status: 500,
    grpc_code: 13,
    error_type: "StackExchange.Redis.RedisTimeoutException",
    message: "Timeout performing HGETALL (1000ms), inst: 0, qu: 18, qs: 4, aw: False, rs: ReadAsync",
    stacktrace: "StackExchange.Redis.RedisTimeoutException: Timeout performing HGETALL (1000ms), inst: 0, qu: 18, qs: 4, aw: False, rs: ReadAsync\n\
  \x20  at Aurora.Cart.Storage.RedisCartStore.LoadAsync(String cartId, CancellationToken ct) in /src/Cart/Storage/RedisCartStore.cs:line 73\n\
  \x20  at Aurora.Cart.CartService.GetAsync(String cartId, CancellationToken ct) in /src/Cart/CartService.cs:line 41\n\
  \x20  at Aurora.Cart.Endpoints.CartEndpoints.<>c.<<Map>b__0_0>d.MoveNext() in /src/Cart/Endpoints/CartEndpoints.cs:line 22\n\
--- End of stack trace from previous location ---\n\
  \x20  at Microsoft.AspNetCore.Http.RequestDelegateFactory.ExecuteTaskResult[T](Task`1 task, HttpContext httpContext)\n\
  \x20  at Microsoft.AspNetCore.Diagnostics.ExceptionHandlerMiddlewareImpl.<Invoke>g__Awaited|10_0(HttpContext context, Task task)\n",
    stall_ms: 1000,
};

pub static IMAGE_MEMORY: Fault = Fault {
    http_status: 500,
    grpc_code: 13,
    error_type: "Error",
    message: "Input image exceeds pixel limit",
    stacktrace: "Error: Input image exceeds pixel limit\n\
  \x20   at Sharp.toBuffer (/var/task/node_modules/sharp/lib/output.js:163:17)\n\
  \x20   at derive (/var/task/src/derive.js:38:24)\n\
  \x20   at async Runtime.handler (/var/task/src/index.js:19:20)\n\
  \x20   at async Runtime.handleOnceStreaming (file:///var/runtime/index.mjs:1206:26)\n",
    stall_ms: 0,
};

pub static RATE_LIMITED: Fault = Fault {
    http_status: 429,
    grpc_code: 8,
    error_type: "429",
    message: "tenant request rate exceeded",
    stacktrace: "",
    stall_ms: 0,
};

/// The stack trace of a service that got a failure from `callee`, as its runtime prints it.
pub fn passed_on(language: Language, service: &str, callee: &str, cause: &str) -> (String, String) {
    let package = service.replace('-', "_");
    match language {
        Language::Java => java_trace(&package, callee, cause),
        Language::Python => python_trace(&package, callee, cause),
        Language::Node | Language::Browser => node_trace(callee, cause),
        Language::DotNet => dotnet_trace(&package, callee, cause),
        Language::Ruby => ruby_trace(callee, cause),
        Language::Php => php_trace(callee, cause),
        Language::Rust | Language::Elixir | Language::Swift => rust_chain(&package, callee, cause),
        Language::Go => go_trace(&package, callee, cause),
    }
}

fn java_trace(package: &str, callee: &str, cause: &str) -> (String, String) {
    let class = "io.grpc.StatusRuntimeException";
    let trace = format!(
        "{class}: UNAVAILABLE: {cause}\n\
\tat io.grpc.stub.ClientCalls.toStatusRuntimeException(ClientCalls.java:368)\n\
\tat io.grpc.stub.ClientCalls.getUnchecked(ClientCalls.java:349)\n\
\tat io.grpc.stub.ClientCalls.blockingUnaryCall(ClientCalls.java:174)\n\
\tat goods.aurora.{package}.clients.Downstream.call(Downstream.java:57) [{callee}]\n\
\tat goods.aurora.{package}.Workflow.execute(Workflow.java:131)\n\
\tat goods.aurora.{package}.grpc.ServiceEndpoint.handle(ServiceEndpoint.java:44)\n\
\tat io.grpc.stub.ServerCalls$UnaryServerCallHandler$UnaryServerCallListener.onHalfClose(ServerCalls.java:182)\n\
\tat io.grpc.internal.SerializingExecutor.run(SerializingExecutor.java:133)\n\
\tat java.base/java.lang.Thread.run(Thread.java:1583)\n"
    );
    (class.to_owned(), trace)
}

fn python_trace(package: &str, callee: &str, cause: &str) -> (String, String) {
    let class = "httpx.HTTPStatusError";
    let trace = format!(
        "Traceback (most recent call last):\n\
  \x20 File \"/app/{package}/api.py\", line 88, in handle\n\
  \x20   result = await downstream.call(\"{callee}\", payload)\n\
  \x20 File \"/app/{package}/downstream.py\", line 34, in call\n\
  \x20   response.raise_for_status()\n\
  \x20 File \"/usr/local/lib/python3.13/site-packages/httpx/_models.py\", line 829, in raise_for_status\n\
  \x20   raise HTTPStatusError(message, request=request, response=self)\n\
{class}: Server error for '{callee}': {cause}\n"
    );
    (class.to_owned(), trace)
}

fn node_trace(callee: &str, cause: &str) -> (String, String) {
    let trace = format!(
        "Error: {callee}: {cause}\n\
  \x20   at Downstream.unwrap (/app/dist/clients/downstream.js:61:13)\n\
  \x20   at process.processTicksAndRejections (node:internal/process/task_queues:105:5)\n\
  \x20   at async charge (/app/dist/charge.js:112:20)\n\
  \x20   at async Object.handler (/app/dist/server.js:47:18)\n"
    );
    ("Error".to_owned(), trace)
}

fn dotnet_trace(package: &str, callee: &str, cause: &str) -> (String, String) {
    let class = "System.Net.Http.HttpRequestException";
    let trace = format!(
        "{class}: {callee}: {cause}\n\
  \x20  at System.Net.Http.HttpResponseMessage.EnsureSuccessStatusCode()\n\
  \x20  at Aurora.{package}.Clients.Downstream.SendAsync(HttpRequestMessage request) in /src/Clients/Downstream.cs:line 52\n\
  \x20  at Aurora.{package}.Handlers.Handle(HttpContext context) in /src/Handlers.cs:line 37\n"
    );
    (class.to_owned(), trace)
}

fn ruby_trace(callee: &str, cause: &str) -> (String, String) {
    let class = "Faraday::ServerError";
    let trace = format!(
        "app/clients/downstream.rb:33:in 'Downstream#call': the server responded to {callee} with {cause} ({class})\n\
\tfrom app/workers/delivery_worker.rb:18:in 'DeliveryWorker#work'\n\
\tfrom /usr/local/bundle/gems/bunny-2.24.0/lib/bunny/consumer.rb:56:in 'Bunny::Consumer#call'\n"
    );
    (class.to_owned(), trace)
}

fn php_trace(callee: &str, cause: &str) -> (String, String) {
    let class = "GuzzleHttp\\Exception\\ServerException";
    let trace = format!(
        "{class}: Server error: `{callee}` resulted in `{cause}`\n\
#0 /var/www/vendor/guzzlehttp/guzzle/src/Middleware.php(72): GuzzleHttp\\Exception\\RequestException::create()\n\
#1 /var/www/src/Client/RatesClient.php(41): GuzzleHttp\\Client->request('GET', '{callee}')\n\
#2 /var/www/src/Controller/QuoteController.php(28): App\\Client\\RatesClient->rates()\n\
#3 /var/www/vendor/symfony/http-kernel/HttpKernel.php(183): App\\Controller\\QuoteController->quote()\n\
#4 {{main}}\n"
    );
    (class.to_owned(), trace)
}

/// Errors as values: the chain of causes instead of a stack.
fn rust_chain(package: &str, callee: &str, cause: &str) -> (String, String) {
    let chain = format!(
        "{package}: cannot complete {callee}\n\n\
Caused by:\n\
  \x20  0: the carrier's API refused the request\n\
  \x20  1: HTTP status server error ({cause})\n"
    );
    (format!("{package}::error::CarrierError"), chain)
}

fn go_trace(package: &str, callee: &str, cause: &str) -> (String, String) {
    let trace = format!(
        "goroutine 48211 [running]:\n\
go.opentelemetry.io/otel/sdk/trace.recordStackTrace()\n\
\t/go/pkg/mod/go.opentelemetry.io/otel/sdk@v1.38.0/trace/span.go:515 +0x2d\n\
go.opentelemetry.io/otel/sdk/trace.(*recordingSpan).RecordError(0xc000bd2000, {{0x1a3f5e0, 0xc0004e81b0}})\n\
\t/go/pkg/mod/go.opentelemetry.io/otel/sdk@v1.38.0/trace/span.go:483 +0x1f9\n\
aurora.example/{package}/internal/downstream.(*Client).Do(0xc0002a4000, {{0x1c2d7a8, 0xc0009f3f20}})\n\
\t/src/{package}/internal/downstream/client.go:94 +0x3a5\n\
aurora.example/{package}/internal/handler.(*Handler).ServeHTTP(0xc00031e0f0, {{0x1c2a4d0, 0xc000b8c2a0}})\n\
\t/src/{package}/internal/handler/handler.go:57 +0x21c\n\
net/http.HandlerFunc.ServeHTTP(0xc0004e8150?)\n\
\t/usr/local/go/src/net/http/server.go:2322 +0x29\n"
    );
    ("*downstream.StatusError".to_owned(), format!("{callee}: {cause}\n\n{trace}"))
}
