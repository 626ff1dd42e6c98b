"""A tenant that sends as usual while something goes wrong: all is taken, soon, and found, each span exactly once."""

import contextlib
import itertools
import threading
import time

import grpc
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otlp import by_span, middle_of_hour, request, span, trace_as_protobuf

WELL_BEHAVED = "well-behaved"
SERVICE = "steady"
SPANS_PER_BATCH = 10
# Sent in each way at least twice, however short what goes on meanwhile is.
BATCHES_MIN = 8
PAUSE_SECONDS = 0.03
# Far more than a batch takes on a busy machine, and far less than it takes where somebody else is served first.
BATCH_SECONDS_MAX = 20
END_SECONDS_MAX = 60
# The traces that are opened one by one; SQL and series look at all.
OPENED_MAX = 20
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@contextlib.contextmanager
def steady_ingest(server, tenant=WELL_BEHAVED, complete=True):
    """Meanwhile the tenant sends. With `complete=False` its answers may be partial, as its older spans may be missing;
    what it sends now never is."""
    sender = SteadySender(server, tenant, complete)
    sender.start()
    try:
        yield sender
    finally:
        sender.stop()
    sender.check()
    server.flush()
    sender.check()


class SteadySender(threading.Thread):
    """Sends traces by each protocol, over connections that it keeps and over new ones, and finds each at once."""

    def __init__(self, server, tenant, complete):
        super().__init__(daemon=True)
        self.server, self.tenant, self.complete = server, tenant, complete
        self.begin = middle_of_hour()
        self.accepted, self.faults = 0, []
        self.halt = threading.Event()

    def run(self):
        with requests.Session() as session, self._channel() as channel:
            ways = itertools.cycle(
                (
                    lambda body: self._by_http(session, body),
                    lambda body: self._by_grpc(channel, body),
                    lambda body: self._by_http(requests, body),
                    self._by_new_grpc,
                )
            )
            while not self.faults and not (self.halt.is_set() and self.accepted >= BATCHES_MIN):
                self._send(self.accepted + 1, next(ways), session)
                self.halt.wait(PAUSE_SECONDS)

    def _send(self, number, way, session):
        began = time.monotonic()
        try:
            way(self._batch(number).SerializeToString())
            answer = session.get(
                f"{self.server.url}/api/v1/traces/{self._trace(number).hex()}",
                headers=self._headers(),
                timeout=BATCH_SECONDS_MAX,
            )
            assert answer.status_code == 200 and answer.json()["spanCount"] == SPANS_PER_BATCH, answer.text
            self.accepted += 1
        except Exception as fault:
            self.faults.append(f"batch {number}, after {time.monotonic() - began:.1f} s: {fault!r}")

    def _by_http(self, session, body):
        headers = self._headers() | {"Content-Type": "application/x-protobuf"}
        url = self.server.otlp_http + "/v1/traces"
        answer = session.post(url, data=body, headers=headers, timeout=BATCH_SECONDS_MAX)
        assert (answer.status_code, answer.content) == (200, b""), (answer.status_code, answer.text)

    def _by_grpc(self, channel, body):
        export = channel.unary_unary(EXPORT, lambda message: message, ExportTraceServiceResponse.FromString)
        metadata = [(name.lower(), value) for name, value in self._headers().items()]
        assert export(body, timeout=BATCH_SECONDS_MAX, metadata=metadata) == ExportTraceServiceResponse()

    def _by_new_grpc(self, body):
        with self._channel() as channel:
            self._by_grpc(channel, body)

    def _channel(self):
        # Otherwise channels to one address share a connection.
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.insecure_channel(self.server.otlp_grpc.removeprefix("http://"), options)

    def _headers(self):
        return {"X-Scope-OrgID": self.tenant} if self.tenant else {}

    def _trace(self, number):
        return b"steadily" + number.to_bytes(8)

    def _batch(self, number):
        start = self.begin + number * SPANS_PER_BATCH
        spans = [
            span(self._trace(number), (at + 1).to_bytes(8), start + at, name=f"step {at}", attributes={"batch": number})
            for at in range(SPANS_PER_BATCH)
        ]
        return request(spans, service=SERVICE)

    def wait_for(self, batches):
        """Waits until so many more are accepted."""
        until = self.accepted + batches
        deadline = time.monotonic() + END_SECONDS_MAX
        while self.accepted < until and not self.faults:
            assert time.monotonic() < deadline, f"{self.accepted} of {until} batches are accepted"
            time.sleep(0.01)
        assert self.faults == [], self.faults

    def stop(self):
        self.halt.set()
        self.join(END_SECONDS_MAX)

    def check(self):
        """Every batch was accepted, and is there for SQL, for series and for whoever opens a trace, each span once."""
        assert self.faults == [] and not self.is_alive() and self.accepted >= BATCHES_MIN, (self.accepted, self.faults)
        self._check_sql()
        self._check_series()
        for number in range(1, self.accepted + 1, self.accepted // OPENED_MAX + 1):
            found = trace_as_protobuf(
                self.server, self._trace(number).hex(), may_be_partial=not self.complete, tenant=self.tenant
            )
            assert by_span(found) == by_span(self._batch(number))

    def _check_sql(self):
        query = (
            "SELECT trace_id, count(*), count(DISTINCT span_id) FROM spans "
            f"WHERE service_name = '{SERVICE}' GROUP BY trace_id"
        )
        asked = {"query": query, "limit": self.accepted + 1}
        answer = self.server.request("POST", "/api/v1/sql", json=asked, tenant=self.tenant).json()
        assert not (self.complete and answer.get("partialReason")), answer["partialReason"]
        expected = {self._trace(number).hex() for number in range(1, self.accepted + 1)}
        found = {trace: (spans, distinct) for trace, spans, distinct in answer["rows"]}
        assert len(found) == len(answer["rows"]) and found.keys() == expected, found.keys() ^ expected
        assert set(found.values()) == {(SPANS_PER_BATCH, SPANS_PER_BATCH)}, found

    def _check_series(self):
        begin = self.begin // 10**9
        query = f'{{ resource.service.name = "{SERVICE}" }} | count_over_time()'
        asked = {"q": query, "start": begin - 60, "end": begin + 60, "instant": "true"}
        answer = self.server.json("/api/v1/metrics", params=asked, tenant=self.tenant)
        assert answer["complete"] or not self.complete, answer
        [series] = answer["series"]
        assert series["values"] == [self.accepted * SPANS_PER_BATCH], (series, self.accepted)
