"""The demo's child processes: each in a group of its own, each ended by its id.

A child's output is read by a thread, line by line, so that somebody can wait for a line instead of sleeping.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from ztunnel.demo.story import DemoFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ztunnel.demo.interrupts import Interrupts

# Events on this machine: a line in a log, a reload, a handshake. Ten seconds is what the nodes allow
# themselves for a handshake; on a quiet machine all of these take milliseconds.
PATIENCE = 10.0
# From SIGTERM to SIGKILL: longer than the nodes' own drain.
LAST_WORDS = 4.0
TURN = 0.1
KEPT_LINES = 4000
LONGEST_LINE = 64 * 1024


class Child:
    """A running process and what it has said."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._count = 0
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, args=(log,), daemon=True)
        self._reader.start()

    def mark(self) -> int:
        """A place in the log: the number of lines so far."""
        with self._changed:
            return self._count

    def lines(self, after: int = 0) -> list[str]:
        """What was said since a mark, as far as it is kept."""
        with self._changed:
            return self._since(after)

    def wait_for(
        self,
        wanted: Callable[[str], bool],
        *,
        after: int = 0,
        what: str,
        patience: float = PATIENCE,
        meanwhile: Callable[[], None] | None = None,
    ) -> str:
        """The first line since the mark that is wanted; `DemoFailed` if none comes, or the process ends.

        `meanwhile` is called now and then, to show that something is going on.
        """
        deadline = time.monotonic() + patience
        with self._changed:
            while True:
                found = next((line for line in self._since(after) if wanted(line)), None)
                if found is not None:
                    return found
                after = self._count
                if self._ended:
                    raise DemoFailed(f"{self.name} ended before it said: {what}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise DemoFailed(f"{self.name} did not say within {patience:g} s: {what}")
                self._changed.wait(min(left, TURN) if meanwhile else left)
                if meanwhile:
                    meanwhile()

    def ask(self) -> str:
        """Sends an empty line to its standard input and gives the line that it answers with."""
        after = self.mark()
        if self._process.stdin is None:
            raise AssertionError(f"{self.name} was started without an input")
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return self.wait_for(lambda _: True, after=after, what="an answer")

    def cpu(self) -> float:
        """CPU-seconds so far, of all threads."""
        # The process' own CPU clock, clock_getcpuclockid(3) with CPUCLOCK_SCHED: nanoseconds, not ticks.
        return time.clock_gettime((~self.pid << 3) | 2)

    def is_running(self) -> bool:
        """It has not ended yet."""
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and waits for its end."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """To its whole group; nothing happens if it has ended."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def end(self, deadline: float) -> int:
        """Waits for the end that SIGTERM asked for, until the deadline, then kills it; gives the exit code."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
        # A grandchild that still holds the pipe is about to end; its last words are not worth waiting for.
        self._reader.join(max(0.1, deadline - time.monotonic()))
        return self._process.returncode

    def _since(self, after: int) -> list[str]:
        first = self._count - len(self._lines)
        return list(self._lines)[max(0, after - first) :]

    def _read(self, log: Path) -> None:
        stream = self._process.stdout
        if stream is None:
            raise AssertionError(f"{self.name} was started without an output")
        with log.open("ab") as file, contextlib.closing(stream):
            while line := stream.readline(LONGEST_LINE):
                file.write(line)
                file.flush()
                with self._changed:
                    self._lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                    self._count += 1
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Processes:
    """All children; none outlives `close`."""

    def __init__(self, folder: Path, interrupts: Interrupts) -> None:
        """Logs go to `folder`."""
        self._folder = folder
        self._interrupts = interrupts
        self._running: list[Child] = []
        self._started: list[subprocess.Popen[bytes]] = []

    def start(
        self, name: str, command: Sequence[str], *, steered: bool = False, cwd: Path | None = None
    ) -> Child:
        """Starts one; `steered` ones take lines on their standard input and end with it."""
        stdin = subprocess.PIPE if steered else subprocess.DEVNULL
        with self._interrupts.held():
            process = self.popen(command, stdin=stdin, stderr=subprocess.STDOUT, cwd=cwd)
            child = Child(name, process, self._folder / f"{name}.log")
            # Takes the place of one of its name that was killed.
            self._running = [one for one in self._running if one.name != name or one.is_running()]
            self._running.append(child)
        return child

    def popen(
        self,
        command: Sequence[str],
        *,
        stdin: int = subprocess.DEVNULL,
        stderr: int = subprocess.PIPE,
        cwd: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """A process in a group of its own, whose output is the caller's business; its end is ours at the latest."""
        with self._interrupts.held():
            try:
                process = subprocess.Popen(  # noqa: S603 - no shell; every word is the demo's own
                    command,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    cwd=cwd,
                    env=environment(),
                    process_group=0,
                )
            except OSError as error:
                raise DemoFailed(f"cannot start {command[0]}: {error.strerror}") from error
            self._started = [one for one in self._started if one.poll() is None]
            self._started.append(process)
        return process

    def end(self, *children: Child) -> list[int]:
        """Asks these to end, all at once, and waits; gives their exit codes."""
        for child in children:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + LAST_WORDS
        codes = [child.end(deadline) for child in children]
        self._running = [child for child in self._running if child not in children]
        return codes

    def last_lines(self, name: str, count: int) -> list[str]:
        """The end of what the latest process of a name has said."""
        lines = next((child.lines() for child in reversed(self._running) if child.name == name), [])
        return lines[-count:]

    def wait_for_a_signal(self, ended: Callable[[Child], None]) -> None:
        """Waits until somebody interrupts; tells `ended` of each process that ends before."""
        told: set[int] = set()
        while True:
            for child in self._running:
                if not child.is_running() and child.pid not in told:
                    told.add(child.pid)
                    ended(child)
            # Returns when a child has ended, which the next turn asks for and reaps.
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)

    def close(self) -> None:
        """Ends all that are left, the latest first."""
        self.end(*reversed(self._running))
        for process in self._started:
            if process.poll() is None:
                end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a process and its group, and waits for its end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def environment() -> dict[str, str]:
    """Ours, without what would send the demo's clients through somebody else's proxy, or change Python's path."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and name != "PYTHONSAFEPATH"
    }
    return ours | {"PYTHONUNBUFFERED": "1"}
