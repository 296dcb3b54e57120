"""What work costs with its size: compared with itself, for seconds are the machine's.

Counts the processor time of this thread, so whoever else runs beside adds little, and takes the best of three, so who came
in between adds nothing. Tells linear from quadratic, not fast from slow: that is bench's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TIMES = 4
"""How much larger the larger work is,"""
MOST = 10.0
"""and how much more it may cost: linear work costs 4 times as much, quadratic work 16 times."""


def assert_linear(work: Callable[[int], object], size: int) -> None:
    """Fails if `work(4 * size)` costs far more than four times what `work(size)` does, which should be some 10 ms."""
    small, large = (_best(work, each) for each in (size, TIMES * size))
    told = f"{size}: {small * 1e3:.1f} ms, {TIMES * size}: {large * 1e3:.1f} ms"
    assert large < MOST * small, told


def _best(work: Callable[[int], object], size: int) -> float:
    found = []
    for _ in range(3):
        began = time.thread_time()
        work(size)
        found.append(time.thread_time() - began)
    return min(found)
