"""A page of another site reads nothing and changes nothing, on any port, in any interface; pages that should, can."""

import html
import http.server
import json
import re
import shutil
import subprocess
import threading

import pytest
import requests

from otlp import by_span, middle_of_hour, request, span, trace_as_protobuf

TRACE = bytes(range(1, 17))
EVIL = "https://evil.example"
TOOLS = "https://tools.example"
SHOP = "https://shop.example"
JSON = {"Content-Type": "application/json"}
TEXT = {"Content-Type": "text/plain"}
SQL = '{"query": "SELECT count(*) FROM spans"}'

# One question of each interface; the tests of the crate `api` have every route.
QUESTIONS = (
    ("GET", "/"),
    ("GET", "/api/v1/search"),
    ("GET", f"/api/v1/traces/{TRACE.hex()}"),
    ("POST", "/api/v1/sql"),
    ("PUT", "/api/v1/saved-queries/theirs"),
    ("DELETE", "/api/v1/saved-queries/theirs"),
    ("POST", "/api/v1/admin/flush"),
    ("POST", "/api/v1/admin/compact"),
    ("GET", f"/api/v2/traces/{TRACE.hex()}"),
    ("GET", "/api/search/tags"),
    ("GET", "/jaeger/api/services"),
    ("GET", "/api/v3/services"),
    ("GET", "/zipkin/api/v2/services"),
    ("POST", "/tempopb.StreamingQuerier/Search"),
    ("POST", "/arrow.flight.protocol.FlightService/DoGet"),
    ("GET", "/metrics"),
)


def send_one_span(server):
    server.post_otlp(request([span(TRACE, bytes(range(1, 9)), middle_of_hour())]).SerializeToString())


def reading_headers(answer):
    return [name for name in answer.headers if name.lower().startswith("access-control-")]


def test_no_interface_answers_a_page_of_another_site(tracehouse):
    send_one_span(tracehouse)
    for method, path in QUESTIONS:
        loaded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        for page in ({"Origin": EVIL}, {"Origin": "null"}, loaded):
            answer = tracehouse.request(method, path, headers={**JSON, **page}, data=SQL, expect=403)
            assert reading_headers(answer) == [], (method, path, page)
        asked = {"Origin": EVIL, "Access-Control-Request-Method": method}
        assert reading_headers(tracehouse.request("OPTIONS", path, headers=asked, expect=403)) == []
        tracehouse.request(method, path, headers={**JSON, "Host": "evil.example:3200"}, data=SQL, expect=421)
        if method == "POST":
            tracehouse.request(method, path, headers=TEXT, data=SQL, expect=415)
    for url in (tracehouse.otlp_http, tracehouse.otlp_grpc):
        path = "/v1/traces"
        for headers, status in (({**JSON, "Origin": EVIL}, 403), (TEXT, 415), ({**JSON, "Host": "evil.example"}, 421)):
            answer = requests.post(url + path, data="{}", headers=headers, timeout=20)
            assert (answer.status_code, reading_headers(answer)) == (status, []), (url, headers)
    # Nothing was flushed, and what is served is served still.
    assert tracehouse.parquet_files() == []
    assert len(tracehouse.search()["traces"]) == 1
    visit = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    tracehouse.get("/", headers=visit)
    tracehouse.get("/", headers={"Sec-Fetch-Site": "same-origin", "Origin": tracehouse.url})


def test_configured_origins_and_names_are_served(new_tracehouse):
    config = {
        "http": {"allowed_origins": [TOOLS], "host_names": ["traces.example.com"]},
        "otlp": {"browser_origins": [SHOP]},
    }
    server = new_tracehouse(config).start()
    send_one_span(server)
    named = {"Host": "traces.example.com:8443"}
    for method, path, body in (("GET", "/api/v1/services", None), ("POST", "/api/v1/sql", SQL)):
        answer = server.request(method, path, data=body, headers={**JSON, **named, "Origin": TOOLS})
        assert answer.headers["Access-Control-Allow-Origin"] == TOOLS and "origin" in answer.headers["Vary"].lower()
        asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "x-scope-orgid"}
        permission = server.request("OPTIONS", path, headers={"Origin": TOOLS, **asked}, expect=204)
        assert permission.headers["Access-Control-Allow-Headers"] == "x-scope-orgid"
        server.request(method, path, data=body, headers={**JSON, "Origin": SHOP}, expect=403)
    # Pages that may only send spans may not ask.
    sent = requests.post(server.otlp_http + "/v1/traces", data="{}", headers={**JSON, "Origin": SHOP}, timeout=20)
    assert (sent.status_code, sent.headers["Access-Control-Allow-Origin"]) == (200, SHOP)
    server.request("GET", "/api/v1/services", headers={"Host": "other.example.com"}, expect=421)


ASKED = "authorization,baggage,content-type,traceparent,x-api-key,x-scope-orgid"


def preflight(url, origin, method="POST", headers=ASKED):
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return requests.options(url, headers=asked, timeout=20)


def allows(answer, origin):
    """Whether a browser would let a page of this origin read it, with credentials."""
    return (
        answer.headers.get("Access-Control-Allow-Origin") == origin
        and answer.headers.get("Access-Control-Allow-Credentials") == "true"
        and "origin" in answer.headers["Vary"].lower()
    )


def test_preflights_and_errors_are_as_the_fetch_standard_has_them(new_tracehouse):
    config = {
        "http": {"allowed_origins": ["https://*.team.example", "http://localhost:*"]},
        "otlp": {"browser_origins": [SHOP]},
        "limits": {"request_bytes_max": "64KiB"},
    }
    server = new_tracehouse(config).start()
    sender = server.otlp_http + "/v1/traces"
    grpc = server.otlp_grpc + "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    places = [server.url + path for _, path in QUESTIONS] + [sender, grpc]
    for origin in ("https://a.team.example", "https://a.b.team.example", "http://localhost:3000"):
        for url in places:
            answer = preflight(url, origin)
            assert answer.status_code == 204 and allows(answer, origin), (url, origin)
            assert answer.headers["Access-Control-Allow-Headers"] == ASKED, url
            assert "POST" in answer.headers["Access-Control-Allow-Methods"], url
            assert int(answer.headers["Access-Control-Max-Age"]) > 0, url
            vary = answer.headers["Vary"].lower()
            assert "access-control-request-headers" in vary and "access-control-request-method" in vary, url
    others = ("https://team.example", "https://evilteam.example", "https://a.team.example.evil.org")
    others += ("https://evil.org/.team.example", "http://localhost.evil.org:3000", "http://a.team.example")
    for origin in others:
        for url in places:
            answer = preflight(url, origin)
            assert (answer.status_code, reading_headers(answer)) == (403, []), (url, origin)
    assert allows(preflight(sender, SHOP), SHOP)
    assert preflight(server.url + "/api/v1/search", SHOP).status_code == 403
    # What is refused, a page can read as well: what is no JSON, too large, of no tenant, not there.
    page = {**JSON, "Origin": SHOP}
    for status, headers, body in (
        (400, page, "{"),
        (413, page, "x" * 100_000),
        (415, {**page, **TEXT}, "{}"),
        (400, {**page, "X-Scope-OrgID": "a/b"}, "{}"),
    ):
        answer = requests.post(sender, data=body, headers=headers, timeout=20)
        assert answer.status_code == status and allows(answer, SHOP), (status, answer.headers)
    tool = {"Origin": "https://a.team.example"}
    for path, status in (("/api/v1/search?limit=x", 400), ("/api/v1/nothing", 404), ("/api/v1/traces/ff", 404)):
        assert allows(server.request("GET", path, headers=tool, expect=status), tool["Origin"]), path


def test_allowed_headers_can_be_listed_and_any_origin_has_no_credentials(new_tracehouse):
    listed = {"allowed_origins": ["*"], "allowed_headers": ["x-api-key"]}
    server = new_tracehouse({"http": listed}).start()
    for url in (server.url + "/api/v1/sql", server.otlp_http + "/v1/traces"):
        answer = preflight(url, EVIL)
        assert answer.headers["Access-Control-Allow-Headers"] == "content-type, x-api-key"
        assert answer.headers["Access-Control-Allow-Origin"] == EVIL
        assert "Access-Control-Allow-Credentials" not in answer.headers


# What a page tries; each ends with what it learnt: `refused`, `opaque` (a browser shows nothing of it), or the text.
PAGE = """<!doctype html><body>waiting</body><script>
const server = "SERVER", sender = "SENDER";
const tries = {
    read: () => fetch(server + "/api/v1/search"),
    read_opaque: () => fetch(server + "/api/v1/search", { mode: "no-cors" }),
    sql_as_text: () => fetch(server + "/api/v1/sql", { method: "POST", body: '{"query": "SELECT * FROM spans"}' }),
    sql_as_json: () => fetch(server + "/api/v1/sql", { method: "POST", body: '{"query": "SELECT * FROM spans"}',
        headers: { "Content-Type": "application/json" } }),
    flush: () => fetch(server + "/api/v1/admin/flush", { method: "POST", mode: "no-cors" }),
    spans: () => fetch(sender + "/v1/traces", { method: "POST", mode: "no-cors", body: "{}" }),
    script: () => new Promise((done, failed) => {
        const script = document.createElement("script");
        script.src = server + "/api/v1/services";
        script.onload = () => done({ type: "basic", text: () => "loaded" });
        script.onerror = () => failed("refused");
        document.head.append(script);
    }),
};
const attempt = async (act) => {
    try {
        const answer = await act();
        return answer.type === "opaque" ? "opaque" : await answer.text();
    } catch { return "refused"; }
};
Promise.all(Object.entries(tries).map(async ([name, act]) => [name, await attempt(act)]))
    .then((all) => { document.body.textContent = JSON.stringify(Object.fromEntries(all)); });
</script>"""


@pytest.fixture
def page_of_another_site():
    """Serves a page on a port of its own, which is another origin; `content` is set by the test."""

    class Page(http.server.BaseHTTPRequestHandler):
        content = ""

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(self.content.encode())

        def log_message(self, *_):
            pass

    site = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    Page.url = f"http://localhost:{site.server_port}"
    yield Page
    site.shutdown()


def learnt_by(page, server, folder, content=PAGE):
    page.content = content.replace("SERVER", server.url).replace("SENDER", server.otlp_http)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000"]
    options.append(f"--user-data-dir={folder}")
    shown = subprocess.run(
        [shutil.which("chromium"), *options, "--dump-dom", page.url], capture_output=True, text=True, timeout=120
    )
    found = re.search(r"<body>(\{.*\})</body>", shown.stdout, re.DOTALL)
    assert found, shown.stdout + shown.stderr[-2000:]
    return json.loads(html.unescape(found.group(1)))


def test_a_browser_shows_a_page_of_another_site_nothing(new_tracehouse, page_of_another_site, tmp_path):
    if not shutil.which("chromium"):
        pytest.skip("there is no chromium")
    server = new_tracehouse().start()
    send_one_span(server)
    learnt = learnt_by(page_of_another_site, server, tmp_path / "browser-1")
    assert set(learnt.values()) <= {"refused", "opaque"}, learnt
    assert server.parquet_files() == []
    config = {"http": {"allowed_origins": [page_of_another_site.url]}}
    server = new_tracehouse(config).start()
    send_one_span(server)
    learnt = learnt_by(page_of_another_site, server, tmp_path / "browser-2")
    assert TRACE.hex() in learnt["read"] and "shop" in learnt["sql_as_json"], learnt
    # Text stays refused whoever sends it.
    assert json.loads(learnt["sql_as_text"])["status"] == 415, learnt


# A page that sends a span by `fetch` with headers of its own and reads what is wrong with another, and one by
# `sendBeacon`, which always carries credentials.
SENDING_PAGE = """<!doctype html><body>waiting</body><script>
const url = "SENDER/v1/traces";
const request = (id, kind) => JSON.stringify({ resourceSpans: [{ scopeSpans: [{ spans: [{
    traceId: "TRACE", spanId: id, name: "cut \\ud83c", kind,
    startTimeUnixNano: "START", endTimeUnixNano: "START",
}] }] }] });
const send = (body, init) => fetch(url, { method: "POST", body, ...init,
    headers: { "Content-Type": "application/json", Authorization: "Bearer x", "X-Api-Key": "y", traceparent: "z" } });
(async () => {
    const learnt = {};
    learnt.sent = await (await send(request("0000000000000001", 2))).text();
    learnt.with_credentials = await (await send(request("0000000000000002", []), { credentials: "include" })).text();
    const refused = await send("{");
    learnt.refused = refused.status + " " + (await refused.json()).message;
    learnt.beacon = navigator.sendBeacon(url, new Blob([request("0000000000000003", 2)], { type: "application/json" }));
    const seen = async () => (await (await fetch("SERVER/api/v1/traces/TRACE")).text()).includes("0000000000000003");
    while (!(await seen())) await new Promise((done) => setTimeout(done, 20));
    document.body.textContent = JSON.stringify(learnt);
})();
</script>"""


def test_a_page_of_a_configured_origin_sends_spans(new_tracehouse, page_of_another_site, tmp_path):
    if not shutil.which("chromium"):
        pytest.skip("there is no chromium")
    server = new_tracehouse({"http": {"allowed_origins": ["http://localhost:*"]}}).start()
    content = SENDING_PAGE.replace("TRACE", TRACE.hex()).replace("START", str(middle_of_hour()))
    learnt = learnt_by(page_of_another_site, server, tmp_path / "browser", content)
    assert learnt["sent"] == "{}" and learnt["beacon"] is True, learnt
    assert json.loads(learnt["with_credentials"])["partialSuccess"]["rejectedSpans"] == "1", learnt
    assert learnt["refused"].startswith("400 the request is not an ExportTraceServiceRequest in JSON"), learnt
    spans = by_span(trace_as_protobuf(server, TRACE.hex()))
    assert sorted(number for _, number in spans) == ["0000000000000001", "0000000000000003"]
    for number in (1, 3):
        assert server.json(f"/api/v1/traces/{TRACE.hex()}/spans/{number:016x}")["name"] == "cut \ufffd"
