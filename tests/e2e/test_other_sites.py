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

from otlp import middle_of_hour, request, span

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


def learnt_by(page, server, folder):
    page.content = PAGE.replace("SERVER", server.url).replace("SENDER", server.otlp_http)
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
