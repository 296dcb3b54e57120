"""The watch over the event loop, with time in hand (spec/reliability.md T44)."""

from __future__ import annotations

import asyncio
import logging

import pytest

from ztunnel.fields import FIELDS
from ztunnel.telemetry.loop import LATE, PERIOD, watch_loop
from ztunnel.testing import FakeDataPlane, ManualClock


@pytest.mark.asyncio
async def test_every_turn_is_told_with_its_lag_and_a_long_one_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "ztunnel")
    logging.getLogger("ztunnel").propagate = True
    clock, data_plane = ManualClock(), FakeDataPlane()
    watch = asyncio.ensure_future(watch_loop(data_plane, clock))
    await clock.advance(3 * PERIOD)
    assert data_plane.lags == pytest.approx([0.0, 0.0, 0.0])
    assert caplog.records == []
    clock.pass_time(PERIOD + 2 * LATE)  # somebody blocks the loop
    await clock.advance(0)
    assert data_plane.lags[-1] == pytest.approx(2 * LATE)
    (record,) = caplog.records
    assert getattr(record, FIELDS)["late_s"] == pytest.approx(2 * LATE)
    watch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watch
    data_plane.close()
