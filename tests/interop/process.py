"""A program of somebody else's, and what it says: lines to wait for, an end that is sure.

Knows no proxy. `nodes.py` and `envoy.py` start theirs with it.
"""

from __future__ import annotations

import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator, Mapping, Sequence

# A loaded machine may take its time; a healthy one never gets near.
PATIENCE = 60.0


class Output:
    """The lines of one pipe, as they come."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()

    def read(self, pipe: Iterator[str]) -> None:
        """Take lines until the pipe ends; runs in a thread of its own."""
        for line in pipe:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def lines(self) -> list[str]:
        """Every line so far."""
        with self._changed:
            return list(self._lines)

    def wait(self, wanted: Callable[[str], bool], *, count: int = 1) -> list[str]:
        """The first `count` lines that are wanted, past or to come."""
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while True:
                found = [line for line in self._lines if wanted(line)]
                if len(found) >= count:
                    return found[:count]
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = "ended" if self._ended else f"said nothing of it in {PATIENCE:g} s"
                    tail = "\n".join(self._lines[-40:])
                    raise AssertionError(f"{self._name} {why}; its last lines:\n{tail}")
                self._changed.wait(left)


class Running:
    """A process that was started."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None
    ) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
        )
        self.output, self.errors = Output(name), Output(f"{name} (stderr)")
        self._readers = [
            threading.Thread(target=output.read, args=(pipe,), daemon=True)
            for output, pipe in (
                (self.output, self._process.stdout),
                (self.errors, self._process.stderr),
            )
        ]
        for reader in self._readers:
            reader.start()

    def kill(self) -> None:
        """End it without a word."""
        self._process.kill()
        self._process.wait()

    def ask_to_end(self) -> None:
        """SIGTERM; what it does then is what the test looks at."""
        self._process.terminate()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Its exit code."""
        return self._process.wait(PATIENCE)

    def end(self) -> None:
        """Make sure that nothing of it is left."""
        self._process.terminate()
        try:
            # Nobody waits for connections that the test left open.
            self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            self.kill()
        for reader in self._readers:
            reader.join(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


@contextmanager
def running(
    name: str, *command: str, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run a program; it is gone afterwards."""
    process = Running(name, command, environment)
    try:
        yield process
    finally:
        process.end()
