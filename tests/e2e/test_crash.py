"""SIGKILL at random moments, under load, in the middle of flushes and merges: whatever was acknowledged is there
afterwards, exactly once, and nothing is there that was not sent.

    CRASH_ROUNDS=200 CRASH_SEED=7 tests/run -k crash -s
"""

import os
import random
import threading
import time
from collections import Counter, defaultdict

import requests

import duck
from otlp import HOUR_NANOS, by_span, middle_of_hour, partial_success, request, span, trace_as_protobuf

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "20"))
SEED = int(os.environ.get("CRASH_SEED", time.time_ns() % 1_000_000))
# How long a process lives before it is killed: long enough for several flushes, or hardly at all.
LIFE_SECONDS = (0.02, 0.15, 0.4, 0.8, 1.6)
BATCH_SPANS = (1, 3, 10, 40, 100, 400)
PAUSE_SECONDS_MAX = 0.03
SENDERS = 3
SPREAD_NANOS = 10**9
CHECKED_AFTER_EACH_ROUND = 3
CHECKED_AT_THE_END = 200

CONFIG = {
    "store": {
        # Files are written and merged all the time, so that kills meet every step of it.
        "flush_interval": "100ms",
        "flush_bytes": "1MiB",
        "compaction_interval": "150ms",
        "delete_grace": "300ms",
    }
}


class Sender(threading.Thread):
    """Sends batches with known ids and remembers what was acknowledged. What was not acknowledged is sent again until
    it is, sometimes; what was, too, sometimes: senders that miss an answer do the same."""

    def __init__(self, number, server, halt):
        super().__init__(daemon=True)
        self.chance = random.Random(f"{SEED}/{number}")
        self.server, self.halt = server, halt
        self.session = requests.Session()
        # Over the turn of an hour: each trace lies in files of two.
        self.begin = middle_of_hour(2) + HOUR_NANOS // 2 - SPREAD_NANOS // 2
        self.traces = [self.chance.randbytes(16) for _ in range(20)]
        self.sent = set()
        # By trace: span ids.
        self.acknowledged = defaultdict(set)
        self.batches_acknowledged = self.redelivered = self.failed = 0
        # Batches to be sent again: some of each kind.
        self.unanswered, self.answered = [], []
        self.error = None

    def run(self):
        try:
            while not self.halt.is_set():
                self.send(*self.next_batch())
                self.halt.wait(self.chance.uniform(0, PAUSE_SECONDS_MAX))
        except Exception as error:  # Shown by the main thread.
            self.error = error

    def next_batch(self):
        dice = self.chance.random()
        if self.unanswered and dice < 0.5:
            return self.unanswered.pop(self.chance.randrange(len(self.unanswered)))
        if self.answered and dice < 0.6:
            self.redelivered += 1
            return self.answered.pop(self.chance.randrange(len(self.answered)))
        return self.new_batch()

    def new_batch(self):
        ids, spans = [], []
        trace_id = None
        for at in range(self.chance.choice(BATCH_SPANS)):
            if at % 20 == 0:
                # A new trace, or one that other batches have parts of.
                trace_id = self.chance.choice(self.traces)
                if self.chance.random() < 0.7:
                    trace_id = self.chance.randbytes(16)
                    self.traces[self.chance.randrange(len(self.traces))] = trace_id
            span_id = self.chance.randbytes(8)
            ids.append((trace_id, span_id))
            spans.append(
                span(
                    trace_id,
                    span_id,
                    self.begin + self.chance.randrange(SPREAD_NANOS),
                    name=f"operation {at % 7}",
                    attributes={"number": at, "text": f"value {at % 11}"},
                )
            )
        return ids, request(spans, service=f"service-{self.chance.randrange(5)}").SerializeToString()

    def send(self, ids, body):
        self.sent.update(ids)
        try:
            headers = {"Content-Type": "application/x-protobuf"}
            answer = self.session.post(self.server.otlp_http + "/v1/traces", data=body, headers=headers, timeout=20)
        except requests.RequestException:
            # Killed before, while or after it was kept: nobody knows.
            self.failed += 1
            self.unanswered.append((ids, body))
            self.halt.wait(0.005)
            return
        if answer.status_code in (429, 503):
            self.unanswered.append((ids, body))
            self.halt.wait(0.05)
            return
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        assert partial_success(answer) == (0, ""), partial_success(answer)
        for trace_id, span_id in ids:
            self.acknowledged[trace_id].add(span_id)
        self.batches_acknowledged += 1
        if self.chance.random() < 0.2:
            self.answered.append((ids, body))


class Disturber(threading.Thread):
    """Asks for flushes and merges at random moments, so that there are always some for the kill to hit."""

    def __init__(self, server, halt):
        super().__init__(daemon=True)
        self.chance = random.Random(f"{SEED}/disturber")
        self.server, self.halt = server, halt
        self.done = Counter()

    def run(self):
        while not self.halt.wait(self.chance.uniform(0, 0.2)):
            task = self.chance.choice(("flush", "compact"))
            try:
                answer = requests.post(f"{self.server.url}/api/v1/admin/{task}", timeout=20)
                self.done[task, answer.status_code] += 1
            except requests.RequestException:
                self.done[task, "killed"] += 1


def test_kill_loses_and_doubles_nothing(new_tracehouse):
    chance = random.Random(SEED)
    server = new_tracehouse(CONFIG).start()
    halt = threading.Event()
    senders = [Sender(number, server, halt) for number in range(SENDERS)]
    disturber = Disturber(server, halt)
    began = time.monotonic()
    for thread in (*senders, disturber):
        thread.start()
    try:
        for _ in range(ROUNDS):
            time.sleep(chance.choice(LIFE_SECONDS) * chance.uniform(0.5, 1.5))
            server.kill()
            # Acknowledged by now, so to be found from now on.
            expected = sample_acknowledged(senders, chance)
            server.start()
            for trace_id, span_ids in expected.items():
                check_trace(server, trace_id, span_ids)
    finally:
        halt.set()
        for thread in (*senders, disturber):
            thread.join(30)
    for sender in senders:
        if sender.error:
            raise sender.error
    assert not any(thread.is_alive() for thread in (*senders, disturber))
    check_everything(server, senders, chance)
    acknowledged = sum(len(span_ids) for sender in senders for span_ids in sender.acknowledged.values())
    print(
        f"\n{ROUNDS} kills in {time.monotonic() - began:.0f} s (CRASH_SEED={SEED}): {acknowledged} spans acknowledged "
        f"in {sum(sender.batches_acknowledged for sender in senders)} batches, each there exactly once; "
        f"{sum(sender.redelivered for sender in senders)} batches sent again after their answer, "
        f"{sum(sender.failed for sender in senders)} cut off; on request {describe(disturber.done)}"
    )
    # A test without load would hold, too.
    assert acknowledged > 50 * ROUNDS


def describe(done):
    return ", ".join(f"{task} {outcome}: {count}" for (task, outcome), count in sorted(done.items(), key=str))


def sample_acknowledged(senders, chance):
    """A few traces with what is acknowledged of them at this moment, while the senders go on."""
    expected = {}
    for sender in senders:
        traces = list(sender.acknowledged)
        for trace_id in chance.sample(traces, min(len(traces), CHECKED_AFTER_EACH_ROUND)):
            expected[trace_id] = set(sender.acknowledged[trace_id])
    return expected


def check_trace(server, trace_id, expected):
    """by_span fails by itself if a span is there twice."""
    found = {span_id for _, span_id in by_span(trace_as_protobuf(server, trace_id.hex()))}
    missing = {span_id.hex() for span_id in expected} - found
    assert not missing, f"CRASH_SEED={SEED}: trace {trace_id.hex()} lacks {len(missing)} acknowledged spans: {missing}"


def check_everything(server, senders, chance):
    acknowledged = {trace_id: span_ids for sender in senders for trace_id, span_ids in sender.acknowledged.items()}
    pairs = {(trace_id, span_id) for trace_id, span_ids in acknowledged.items() for span_id in span_ids}
    sent = set().union(*(sender.sent for sender in senders))
    sampled = chance.sample(sorted(acknowledged), min(len(acknowledged), CHECKED_AT_THE_END))
    for trace_id in sampled:
        check_trace(server, trace_id, acknowledged[trace_id])

    server.flush()
    server.compact()
    check_files(server, pairs, sent)
    status = server.json("/api/v1/status")
    assert (status["spansHot"], status["files"]) == (0, len(server.parquet_files()))
    for trace_id in sampled:
        check_trace(server, trace_id, acknowledged[trace_id])

    server.restart()
    assert server.json("/api/v1/status")["spansStored"] == status["spansStored"]
    check_files(server, pairs, sent)
    assert server.metric_sum("tracehouse_store_damaged_files_total") == 0
    assert server.metric_sum("tracehouse_log_damaged_segments_total") == 0


def check_files(server, acknowledged, sent):
    """What DuckDB finds in the files, span by span."""
    connection = duck.connect(server)
    ids = duck.rows(connection, "SELECT trace_id, span_id FROM spans")
    counts = Counter((bytes(trace_id), bytes(span_id)) for trace_id, span_id in ids)
    missing = acknowledged - counts.keys()
    assert not missing, f"CRASH_SEED={SEED}: {len(missing)} of {len(acknowledged)} acknowledged spans are lost"
    twice = {pair: count for pair, count in counts.items() if count > 1}
    assert not twice, f"CRASH_SEED={SEED}: {len(twice)} of {len(counts)} spans are there more than once"
    strangers = counts.keys() - sent
    assert not strangers, f"CRASH_SEED={SEED}: {len(strangers)} spans are there that nobody sent"
