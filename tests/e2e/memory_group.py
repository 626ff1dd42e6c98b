"""A group of processes with a limit of memory (cgroup of the kernel, in either version), for a server under test."""

import os
from pathlib import Path

import pytest

MOUNT = Path("/sys/fs/cgroup")
FIRST_VERSION = MOUNT / "memory"
NEEDED = (
    "it needs root and a writable memory group below /sys/fs/cgroup (cgroup v2 with the memory controller, or v1): "
    "run it as root on the machine itself or in a privileged container"
)


class MemoryGroup:
    """Whatever begins in it may have so much memory together; the kernel kills what takes more."""

    def __init__(self, name: str, bytes_max: int):
        self.is_first_version = (FIRST_VERSION / "memory.limit_in_bytes").exists()
        parent = FIRST_VERSION if self.is_first_version else MOUNT
        self.folder = parent / name
        try:
            if not self.is_first_version:
                (parent / "cgroup.subtree_control").write_text("+memory")
            self.folder.mkdir(exist_ok=True)
            self._write("memory.limit_in_bytes" if self.is_first_version else "memory.max", bytes_max)
        except OSError as error:
            pytest.skip(f"THE SERVER IS NOT TRIED WITHIN A LIMIT OF MEMORY: {error}; {NEEDED}")
        # Without this the kernel would swap instead of killing, where there is a swap.
        for file in ("memory.swappiness", "memory.swap.max"):
            if (self.folder / file).exists():
                self._write(file, 0)

    def _write(self, file, value):
        (self.folder / file).write_text(str(value))

    def enter(self):
        """Puts the calling process into the group, and so all that it begins."""
        self._write("cgroup.procs", os.getpid())

    def kills(self):
        """How many processes of the group the kernel has killed for want of memory."""
        file = "memory.oom_control" if self.is_first_version else "memory.events"
        lines = (self.folder / file).read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.split()[0] == "oom_kill")

    def peak_bytes(self):
        """The most that the group ever had, pages of files among it."""
        file = self.folder / ("memory.max_usage_in_bytes" if self.is_first_version else "memory.peak")
        return int(file.read_text()) if file.exists() else 0

    def remove(self):
        self.folder.rmdir()
