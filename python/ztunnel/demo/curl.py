"""curl, as anybody has it: what it fetches comes through a pipe and is hashed here.

Counterpart: `clients.Fetch`, which does the same on a socket of ours and takes curl's place where there is none.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import select
import shutil
import subprocess
from typing import TYPE_CHECKING, Self

from ztunnel.demo.clients import Ending
from ztunnel.demo.processes import PATIENCE, end_group
from ztunnel.demo.story import DemoFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ztunnel.demo.processes import Processes

CHUNK = 1024 * 1024
# curl's own words for a RST, and for a clean end before Content-Length.
RECV_ERROR, PARTIAL_FILE = 56, 18
# No transfer of the demo takes longer; curl then ends with 28.
MAX_TIME = 120


def path() -> str | None:
    """Where curl is."""
    return shutil.which("curl")


class Curl:
    """One run of curl. `with` ends it, whatever has happened."""

    def __init__(self, processes: Processes, command: Sequence[str]) -> None:
        """`command` begins with what leads to curl and ends with the URL."""
        self._digest = hashlib.sha256()
        self._end = False
        self._words = ""
        self.received = 0
        self._process = processes.popen(command)
        stdout = self._process.stdout
        if stdout is None:
            raise AssertionError("curl was started without an output")
        self._stdout = stdout.fileno()
        # As large as a pipe may be without privileges: fewer turns for both.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, CHUNK)

    def __enter__(self) -> Self:
        """It runs already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it if it still runs."""
        process = self._process
        if process.poll() is None:
            end_group(process)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    def body(self) -> bytes:
        """A small page, whole; `DemoFailed` with curl's words if it is not."""
        data = b""
        while more := self._read():
            data += more
        self._expect_success()
        return data

    def read(self, until: int, progress: Callable[[int], None] | None = None) -> None:
        """Reads on until that many bytes are here; `DemoFailed` if they end before."""
        while self.received < until:
            if not self._read():
                self._expect_success()
                raise DemoFailed(f"curl ended content after {self.received} of {until} bytes")
            if progress:
                progress(self.received)

    def rest(self) -> str:
        """Reads to the end; gives the SHA-256 of all."""
        while self._read():
            pass
        self._expect_success()
        return self._digest.hexdigest()

    def ending(self) -> Ending:
        """Reads to the end, whatever it is."""
        while self._read():
            pass
        code, words = self._outcome()
        if code == RECV_ERROR and "reset" in words.lower():
            return Ending(kind="RST", received=self.received)
        if code in (0, PARTIAL_FILE):
            return Ending(kind="FIN", received=self.received)
        return Ending(kind=words or f"exit {code}", received=self.received)

    def words(self) -> str:
        """What curl says about its end."""
        return self._outcome()[1]

    def _read(self) -> bytes:
        if self._end:
            return b""
        readable, _, _ = select.select([self._stdout], [], [], PATIENCE)
        if not readable:
            raise DemoFailed(f"nothing from curl for {PATIENCE:g} s, after {self.received} bytes")
        data = os.read(self._stdout, CHUNK)
        self._end = not data
        self.received += len(data)
        self._digest.update(data)
        return data

    def _expect_success(self) -> None:
        code, words = self._outcome()
        if code:
            raise DemoFailed(f"{words or f'curl ended with {code}'} (after {self.received} bytes)")

    def _outcome(self) -> tuple[int, str]:
        """Exit code and the line on standard error; curl has closed its output, so it is about to end."""
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise DemoFailed("curl does not end") from None
        if self._process.stderr is not None and not self._words:
            self._words = self._process.stderr.read(4096).decode("utf-8", "replace").strip()
        return code, self._words
