"""SIGTERM before there is anything to drain: the program ends at once, and well (spec/control.md §14).

The default would do, were it not for containers: the first process of one is sent no signal that it has not asked for, and
would go on as if nobody had ended it until its grace period is over. Counterpart: `app.Node`, which listens in its own way
from then on.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@contextmanager
def ends_at_sigterm() -> Iterator[None]:
    """While a program gets ready: what it imports and reads may take seconds. For the main thread."""
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise SystemExit(0)
