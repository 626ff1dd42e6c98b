"""A clock of one process's own, bent by Debian's faketime: environments to start a server with."""

import functools
import subprocess

import pytest


@functools.cache
def library():
    """The library that bends the time of the process it is loaded into."""
    listed = subprocess.run(["dpkg", "-L", "libfaketime"], capture_output=True, text=True)
    found = [line for line in listed.stdout.splitlines() if line.endswith("libfaketimeMT.so.1")]
    if not found:
        pytest.skip("faketime is not installed: apt-get install faketime")
    return found[0]


def shifted(seconds):
    """The time of day is so many seconds ahead. The time since the boot, which the kernel tells, is not bent."""
    return {"LD_PRELOAD": library(), "FAKETIME": f"{seconds:+}", "DONT_FAKE_MONOTONIC": "1"}


def faster(times):
    """All clocks run so many times as fast, those that time-outs are measured by among them."""
    return {"LD_PRELOAD": library(), "FAKETIME": f"+0 x{times}"}
