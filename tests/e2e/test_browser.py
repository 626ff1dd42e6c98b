"""The user interface's own tests, in Debian's Chromium, against a server with the demo's traffic."""

import os
import subprocess
from pathlib import Path

import pytest

from tracehouse import clean_environment, run

UI = Path(__file__).parents[2] / "ui"
MINUTES_MAX = 8


def browser_tests(command, environment=None):
    done = subprocess.run(
        command,
        cwd=UI,
        env=clean_environment() | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=MINUTES_MAX * 60,
    )
    print(done.stdout)
    assert done.returncode == 0


def test_user_interface(new_tracehouse):
    server = new_tracehouse().start()
    demo = ["demo", "--endpoint", server.otlp_grpc, "--rate", "20", "--duration", "3s"]
    run(*demo, "--history", "1h", "--seed", "42", timeout=180)
    # Some in files, some in memory, as it is when someone looks.
    server.flush()
    run(*demo, "--seed", "43", timeout=60)
    browser_tests(["npm", "run", "e2e"], {"TRACEHOUSE_URL": server.url})
    failed = [name for name in server.metrics() if 'status="5' in name]
    assert not failed, failed


def test_the_first_span(new_tracehouse):
    """What the page of an empty server says is done word by word."""
    server = new_tracehouse().start()
    environment = {"TRACEHOUSE_URL": server.url, "TRACEHOUSE_OTLP_HTTP": server.otlp_http.removeprefix("http://")}
    browser_tests(["node", "--test", "--test-timeout=300000", "e2e/first.test.mjs"], environment)


def test_made_up_addresses_and_answers():
    """No page is blank whatever an address and the answers say; with the interface's own stand-in for a server."""
    browser_tests(["npm", "run", "fuzz"])


def test_giant_traces():
    """How quick the page is with 100,000 spans, with the interface's own stand-in for a server."""
    if os.getloadavg()[0] > os.cpu_count() + 1:
        pytest.skip("the machine is busy: times would say nothing")
    browser_tests(["node", "--test", "--test-timeout=300000", "e2e/giant.test.mjs"])
