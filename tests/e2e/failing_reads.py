"""A disk that fails to read stored files, for one process."""

import subprocess
from pathlib import Path


class FailingReads:
    """Reads of stored files fail from `fail` on until `mend`."""

    def __init__(self, folder):
        self.control = folder / "failing-reads"
        self.library = folder / "failing_reads.so"
        source = Path(__file__).with_name("failing_reads.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self.library, source, "-ldl"], check=True)

    def environment(self):
        """To start a server with."""
        return {"LD_PRELOAD": str(self.library), "FAILING_READS": str(self.control)}

    def fail(self, before):
        """Reads that begin before this byte of a file."""
        # A reader never meets half a number.
        unfinished = self.control.with_suffix(".new")
        unfinished.write_text(str(before))
        unfinished.rename(self.control)

    def mend(self):
        self.control.unlink()
