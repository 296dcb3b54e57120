"""Tasks with names and rules."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading

import pytest

from ztunnel.tasks import FailurePolicy, Tasks, detached
from ztunnel.testing import ManualClock


async def for_ever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise RuntimeError("broken")


@pytest.mark.asyncio
async def test_leaving_the_group_ends_its_tasks() -> None:
    async with Tasks(ManualClock()) as tasks:
        tasks.start("one", for_ever)
        tasks.start("two", for_ever, on_failure=FailurePolicy.RESTART)
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_a_task_that_must_not_fail_ends_everything_with_its_own_error() -> None:
    async def body() -> None:
        async with Tasks(ManualClock()) as tasks:
            tasks.start("bad", fail)
            await for_ever()

    with pytest.raises(RuntimeError, match="broken"):
        await body()


@pytest.mark.asyncio
async def test_an_error_of_the_body_comes_out_as_itself() -> None:
    async def body() -> None:
        async with Tasks(ManualClock()) as tasks:
            tasks.start("one", for_ever)
            raise KeyError("body")

    with pytest.raises(KeyError):
        await body()


@pytest.mark.asyncio
async def test_a_control_task_starts_again_after_growing_pauses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, runs = ManualClock(), 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs < 4:
            raise RuntimeError("broken")

    with caplog.at_level(logging.ERROR, logger="ztunnel"):
        async with Tasks(clock) as tasks:
            tasks.start("flaky", run, on_failure=FailurePolicy.RESTART)
            counts = []
            for _ in range(4):
                await clock.settle()
                counts.append(runs)
                await clock.advance({1: 1, 2: 2, 3: 4, 4: 8}[runs])
    assert counts == [1, 2, 3, 4]
    assert len(caplog.records) == 3


@pytest.mark.asyncio
async def test_a_long_good_run_makes_the_next_pause_short_again() -> None:
    clock, starts = ManualClock(), []

    async def run() -> None:
        starts.append(clock.now().monotonic)
        await clock.sleep(0 if len(starts) < 5 else 100)
        raise RuntimeError("broken")

    async with Tasks(clock) as tasks:
        tasks.start("flaky", run, on_failure=FailurePolicy.RESTART)
        await clock.advance(200)
    gaps = [after - before for before, after in itertools.pairwise(starts)]
    assert gaps[:5] == [1, 2, 4, 8, 101]


@pytest.mark.asyncio
async def test_a_detached_call_gives_its_result_or_raises_its_error() -> None:
    assert await detached("call", lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await detached("call", lambda: 1 // 0)


def test_a_detached_call_that_hangs_does_not_hold_the_end_of_the_program() -> None:
    hangs = threading.Event()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await detached("call", hangs.wait)

    try:
        # The test's own deadline would end it, were the thread joined.
        asyncio.run(main())
    finally:
        hangs.set()


@pytest.mark.asyncio
async def test_a_control_task_that_fails_in_a_group_says_what_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    clock = ManualClock()
    async with Tasks(clock) as tasks:
        tasks.start("grouped", run, on_failure=FailurePolicy.RESTART)
        await clock.settle()
    (line,) = caplog.records
    assert str(line.__dict__["fields"]["error"]) == "broken"
    assert line.exc_info is not None
    assert line.exc_info[0] is RuntimeError


@pytest.mark.asyncio
async def test_a_control_task_that_is_cancelled_by_nobody_starts_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, runs = ManualClock(), 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        async with asyncio.TaskGroup() as group:
            group.create_task(for_ever())
            raise asyncio.CancelledError

    async with Tasks(clock) as tasks:
        tasks.start("stray", run, on_failure=FailurePolicy.RESTART)
        await clock.advance(1)
        assert runs == 2
    (*_, line) = caplog.records
    assert line.message == "task failed and starts again"


@pytest.mark.asyncio
async def test_a_control_task_that_fails_while_it_is_ended_does_not_start_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    started, runs = asyncio.Event(), 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        started.set()
        try:
            await for_ever()
        finally:
            raise RuntimeError("while it ended")

    async def body() -> None:
        async with Tasks(ManualClock()) as tasks:
            tasks.start("control", run, on_failure=FailurePolicy.RESTART)
            await started.wait()

    with caplog.at_level(logging.ERROR, logger="ztunnel.tasks"):
        async with asyncio.TaskGroup() as group:
            ending = group.create_task(body())
            # Not in a timeout: its cancellation would end what hangs, and nobody cancels a node.
            ended, _ = await asyncio.wait({ending}, timeout=10)
            ending.cancel()
    assert ended
    assert runs == 1
    assert [record.getMessage() for record in caplog.records] == ["task failed while it ended"]
