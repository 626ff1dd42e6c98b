"""A Tracehouse process under test: started on free ports, asked over HTTP, stopped or killed."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import requests

BINARY = os.environ.get("TRACEHOUSE_BIN", str(Path(__file__).parents[2] / "target/release/tracehouse"))
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 40
REQUEST_SECONDS_MAX = 60


def clean_environment():
    """This process's environment without settings of Tracehouse, which would change what is tested."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TRACEHOUSE_")}


class Tracehouse:
    """One data directory and the process that serves it. All ports are free ones, new at each start."""

    def __init__(self, folder: Path, config: dict | None = None, data_dir: Path | None = None):
        self.folder = folder
        self.data_dir = data_dir or folder / "data"
        self.config = config or {}
        self.process = None
        self.url = self.otlp_grpc = self.otlp_http = None
        self.tenant = None
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / "server.log"
        self.http_session = requests.Session()

    # Life

    def start(self, env=None, before_exec=None):
        """Starts the server, with further environment variables; `before_exec` is called in the new process before that."""
        config_path = self.folder / "tracehouse.yaml"
        # JSON is YAML.
        config_path.write_text(json.dumps(self.config))
        banner_path = self.folder / "banner.txt"
        command = [BINARY, "serve", "--config", config_path, "--data-dir", self.data_dir]
        for flag in ("--listen", "--otlp-grpc", "--otlp-http"):
            command += [flag, "127.0.0.1:0"]
        with open(self.log_path, "a") as log, open(banner_path, "w") as banner:
            environment = clean_environment() | (env or {})
            self.process = subprocess.Popen(
                command, stdout=banner, stderr=log, env=environment, preexec_fn=before_exec
            )
        self._await_banner(banner_path)
        return self

    def _await_banner(self, banner_path):
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            banner = banner_path.read_text()
            if re.search(r"^  data .*\n", banner, re.MULTILINE):
                break
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log()}")
            assert time.monotonic() < deadline, f"the server did not start in {START_SECONDS_MAX} s:\n{self.log()}"
            time.sleep(0.005)
        self.url, self.otlp_grpc, self.otlp_http = (
            re.search(rf"{name}\s+(http://\S+)", banner).group(1) for name in ("UI and APIs", "OTLP/gRPC", "OTLP/HTTP")
        )

    def stop(self):
        """A graceful stop; it must be one."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_SECONDS_MAX)
        assert code == 0, f"the server ended with {code}:\n{self.log()}"

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def restart(self):
        self.stop()
        return self.start()

    def log(self):
        return self.log_path.read_text() if self.log_path.exists() else ""

    # Questions

    def request(self, method, path, expect=200, tenant=None, headers=None, **arguments):
        headers = dict(headers or {})
        if tenant or self.tenant:
            headers["X-Scope-OrgID"] = tenant or self.tenant
        arguments.setdefault("timeout", REQUEST_SECONDS_MAX)
        answer = self.http_session.request(method, self.url + path, headers=headers, **arguments)
        if expect is not None:
            assert answer.status_code == expect, f"{method} {path}: {answer.status_code} {answer.text[:2000]}"
        return answer

    def get(self, path, **arguments):
        return self.request("GET", path, **arguments)

    def json(self, path, **arguments):
        return self.get(path, **arguments).json()

    def search(self, tenant=None, **parameters):
        return self.json("/api/v1/search", params=parameters, tenant=tenant)

    def flush(self):
        return self.request("POST", "/api/v1/admin/flush").json()

    def compact(self):
        return self.request("POST", "/api/v1/admin/compact").json()

    def metrics(self):
        """All samples of /metrics: name with labels, as written, to value."""
        samples = {}
        for line in self.get("/metrics").text.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                samples[name] = float(value)
        return samples

    def metric_sum(self, name):
        return sum(value for sample, value in self.metrics().items() if sample.split("{")[0] == name)

    # Spans in

    def post_otlp(self, body, content_type="application/x-protobuf", tenant=None, headers=None, expect=200):
        headers = {"Content-Type": content_type, **(headers or {})}
        if tenant:
            headers["X-Scope-OrgID"] = tenant
        answer = self.http_session.post(
            self.otlp_http + "/v1/traces", data=body, headers=headers, timeout=REQUEST_SECONDS_MAX
        )
        if expect is not None:
            assert answer.status_code == expect, f"POST /v1/traces: {answer.status_code} {answer.text[:2000]}"
        return answer

    # The command line

    def client(self, *arguments, expect=0):
        return run(*arguments, "--url", self.url, expect=expect)

    def command(self, *arguments, expect=0):
        """A command on the data folder, while the server is stopped."""
        return run(*arguments, "--data-dir", self.data_dir, expect=expect)

    def refuses_to_start(self):
        """The server must end by itself; returns what it wrote."""
        already = len(self.log())
        try:
            self.start()
        except AssertionError:
            assert self.process.poll() not in (None, 0), "the server must say that it can't start"
            return self.log()[already:]
        raise AssertionError("the server must not start")

    # Files

    @property
    def store(self):
        return self.data_dir / "store"

    def parquet_files(self):
        return sorted(self.store.glob("tenant=*/spans/**/*.parquet"))

    def memory_bytes(self):
        """Memory of the process in RAM, now and at most."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return tuple(int(re.search(rf"{key}:\s+(\d+) kB", status).group(1)) * 1024 for key in ("VmRSS", "VmHWM"))


def run(*arguments, expect=0, env=None, timeout=60):
    """Runs the binary; returns what it wrote."""
    environment = clean_environment() | (env or {})
    done = subprocess.run(
        [BINARY, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=timeout
    )
    if expect is not None:
        assert done.returncode == expect, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done
