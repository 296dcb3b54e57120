"""Ctrl-C at any time, and still nothing left behind.

A signal raises `Interrupted` in the main thread, but not while something is being made that has to be
unmade (`held`), and only once: what comes during the clean-up is too late to change anything.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal asked for the end."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)

    @property
    def exit_code(self) -> int:
        """What a shell reports for a program that this signal ended."""
        return 128 + self.number


class Interrupts:
    """`with Interrupts() as interrupts:` — signals are ours until the end of it."""

    def __init__(self) -> None:
        self._held = 0
        self._pending: int | None = None
        self._over = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Takes the signals."""
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        """Gives them back."""
        for number, before in self._before.items():
            signal.signal(number, before)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Signals wait until the block is over."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        self._raise_pending()

    def ignore(self) -> None:
        """From now on the end is under way anyhow."""
        self._over = True

    def _on_signal(self, number: int, _frame: object) -> None:
        if not self._over:
            self._pending = number
            self._raise_pending()

    def _raise_pending(self) -> None:
        if self._pending is not None and not self._held and not self._over:
            self._over = True
            raise Interrupted(self._pending)
