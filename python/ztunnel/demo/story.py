"""What the demo says: numbered steps, facts below them, a line that moves while work is under way.

Knows nothing of nodes. Colour and the moving line only on a terminal; everything else is plain ASCII, so that
it reads the same in a CI log. Counterpart: `steps/`, which has something to tell.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from ztunnel.errors import ZtunnelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class DemoFailed(ZtunnelError):
    """Something that the demo promises did not hold; the message says what was seen instead."""


class LeftOut(Exception):
    """A step, or the rest of one, cannot be shown on this machine; the message says why."""


def expect(condition: object, message: str) -> None:
    """Raises `DemoFailed` unless the condition holds."""
    if not condition:
        raise DemoFailed(message)


class Story:
    """The console."""

    def __init__(self, out: TextIO) -> None:
        """Writes to `out`; coloured if that is a terminal and NO_COLOR (no-color.org) is not set."""
        self._out = out
        self._terminal = out.isatty()
        self._colour = self._terminal and not os.environ.get("NO_COLOR")
        self._moving = False
        self._shown_at = 0.0
        self.left_out: list[str] = []

    def title(self, text: str) -> None:
        """A line above everything."""
        self._line(self._paint("1", text))

    def fact(self, name: str, text: str) -> None:
        """A name and what is to be said about it, which may have several lines."""
        label = f"{name:<{LABEL}}" if name else " " * LABEL
        for number, line in enumerate(text.splitlines() or [""]):
            head = self._paint("36", label) if number == 0 else " " * LABEL
            self._line(f"  {head} {line}")

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Columns side by side, each as wide as its longest cell."""
        rows = [list(row) for row in rows]
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        for number, row in enumerate([list(heads), *rows]):
            cells = "  ".join(
                cell.ljust(width) for cell, width in zip(row, widths, strict=True)
            ).rstrip()
            self._line(f"  {self._paint('36', cells) if number == 0 else cells}")

    def progress(self, text: str) -> None:
        """Replaces the moving line, on a terminal and not more than some twenty times a second."""
        now = time.monotonic()
        if not self._terminal or now - self._shown_at < 0.05:
            return
        self._shown_at = now
        width = shutil.get_terminal_size().columns - 1
        self._out.write(f"\r\x1b[K  {text}"[: width + 4])
        self._out.flush()
        self._moving = True

    @contextmanager
    def step(self, number: int, title: str) -> Iterator[None]:
        """A numbered step; `held` at its end, unless an exception says otherwise."""
        self._line("")
        self._line(self._paint("1", f"{number} {title}"))
        began = time.monotonic()
        try:
            yield
        except LeftOut as reason:
            self.left_out.append(title)
            self._line(f"  {self._paint('33', 'left out')}: {reason}")
            return
        self._line(f"  {self._paint('32', 'held')} ({time.monotonic() - began:.1f} s)")

    def failure(self, number: int, title: str, cause: str) -> None:
        """The step that did not hold."""
        self._line(f"  {self._paint('1;31', 'FAILED')}: step {number} ({title}): {cause}")

    def log_tail(self, name: str, lines: Sequence[str]) -> None:
        """The last lines of somebody's log, for a failure."""
        self._line("")
        self._line(f"last lines of {name}:" if lines else f"{name} has logged nothing")
        for line in lines:
            self._line(f"  {line}")

    def text(self, text: str) -> None:
        """Anything else."""
        for line in text.splitlines() or [""]:
            self._line(line)

    def _line(self, text: str) -> None:
        if self._moving:
            self._out.write("\r\x1b[K")
            self._moving = False
        self._out.write(f"{text}\n")
        self._out.flush()

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text


def mib(count: float) -> str:
    """A number of bytes as people say it."""
    return f"{count / MIB:.1f} MiB" if count < 10 * MIB else f"{count / MIB:.0f} MiB"


MIB = 1024 * 1024
# The longest label of a fact.
LABEL = 12
