"""A disk that fails to read stored files, for one process: strace lets its reads of them end with EIO."""

import contextlib
import shutil
import signal
import subprocess

import pytest


@contextlib.contextmanager
def failing_reads(server, files, when):
    """Meanwhile reads of the files fail, those that `when` selects of each thread's: `1+` all, `3+3` every third."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed: apt-get install strace")
    command = ["strace", "-f", "-p", str(server.process.pid), "-e", "trace=pread64", "-o", "/dev/null"]
    command += ["-e", f"inject=pread64:error=EIO:when={when}"]
    for file in files:
        command += ["-P", file]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    told = tracer.stderr.readline()
    if "attached" not in told:
        tracer.wait()
        pytest.skip(f"processes can't be traced here: {told.strip()}")
    try:
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()
