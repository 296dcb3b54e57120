"""Whether the control side's event loop turns: it says so every second, and Rust sees when it does not.

A loop that somebody blocks renews no certificate and applies no configuration, while traffic goes on; its lag is
`ztunnel_control_loop_lag_seconds` (spec/reliability.md T44).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ztunnel.fields import fields

if TYPE_CHECKING:
    from ztunnel.clock import Clock
    from ztunnel.dataplane.handle import DataPlane

log = logging.getLogger(__name__)

PERIOD = 1.0
# Worth a line: no step of ours takes as long, and a person at the admin port begins to notice.
LATE = 0.5


async def watch_loop(data_plane: DataPlane, clock: Clock) -> None:
    """Tells the data plane of every turn, until it is cancelled."""
    while True:
        data_plane.loop_turned(await _turn(clock), PERIOD)


async def _turn(clock: Clock) -> float:
    """Seconds that a turn came later than it should have."""
    due = clock.now().monotonic + PERIOD
    await clock.sleep(PERIOD)
    late = max(0.0, clock.now().monotonic - due)
    if late >= LATE:
        log.warning(
            "the control side was held up; is the node short of processor time?",
            extra=fields(stage="event loop", side="local", late_s=round(late, 2)),
        )
    return late
