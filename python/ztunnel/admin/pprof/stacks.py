"""Where Python's threads spend their time, seen from a thread of their own.

A thread's stack is looked at every so often, and the CPU time that it has had since the last look is put down to it.
So what a thread waits for costs nothing here, and what it does in Rust is put down to the Python function that called.
The counterpart for Rust's threads is `rust/proxy/src/profile.rs`.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from types import CodeType, FrameType

    Stack: TypeAlias = tuple[tuple[CodeType, int], ...]

# As deep as Rust's.
DEPTH = 80
# Distinct stacks that are kept: more is recursion, and the rest is told.
MOST_STACKS = 16 * 1024


class PythonStacks:
    """Samples until it is ended; then its fields say what it has seen."""

    def __init__(self, period: float) -> None:
        """`period` in seconds."""
        self.found: dict[tuple[str, Stack], list[int]] = {}
        """By thread and stack, innermost first: looks, and nanoseconds of CPU time."""
        self.threads: set[int] = set()
        """Every Python thread that was there, by its native number."""
        self.lost = 0
        """Looks that could not be kept."""
        self._period = period
        self._before: dict[int, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="python profile", daemon=True)
        self._look(count=False)
        self._thread.start()

    def end(self) -> None:
        """No more looks; returns when the last one is over."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        next_look = time.monotonic()
        while True:
            next_look += self._period
            # Late looks are not made up for: their time stands in the next one.
            next_look = max(next_look, time.monotonic())
            over = self._ended.wait(next_look - time.monotonic())
            self._look(count=True)
            if over:
                return

    def _look(self, *, count: bool) -> None:
        frames = sys._current_frames()
        for thread in threading.enumerate():
            number = thread.native_id
            if number is None:
                continue
            self.threads.add(number)
            if thread is self._thread:
                continue
            spent = self._spent(number)
            frame = frames.get(thread.ident or 0)
            if count and spent > 0 and frame is not None:
                self._put_down(thread.name, frame, spent)

    def _spent(self, thread: int) -> int:
        """CPU time since the last look."""
        try:
            now = time.clock_gettime_ns(_clock_of(thread))
        except OSError:
            return 0  # it has ended
        before = self._before.get(thread, now)
        self._before[thread] = now
        return now - before

    def _put_down(self, name: str, frame: FrameType, spent: int) -> None:
        key = name, _stack(frame)
        seen = self.found.get(key)
        if seen is None:
            if len(self.found) >= MOST_STACKS:
                self.lost += 1
                return
            seen = self.found[key] = [0, 0]
        seen[0] += 1
        seen[1] += spent


def _stack(frame: FrameType) -> Stack:
    found: list[tuple[CodeType, int]] = []
    at: FrameType | None = frame
    while at is not None and len(found) < DEPTH:
        found.append((at.f_code, at.f_lineno or 0))
        at = at.f_back
    return tuple(found)


def _clock_of(thread: int) -> int:
    """The clock of a thread's CPU time, by its native number: `pthread_getcpuclockid` must not be asked about a thread
    that may have ended. The form is the kernel's (`MAKE_THREAD_CPUCLOCK`, linux/posix-timers.h).
    """
    per_thread, scheduler = 4, 2
    return (~thread << 3) | per_thread | scheduler
