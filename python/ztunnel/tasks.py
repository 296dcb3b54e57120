"""Long-running tasks with a name, an owner and a rule for their failures.

A task that fails either ends everything (`FailurePolicy.STOP`, the default: half a node is worse than
none) or is started again with a growing pause (`FailurePolicy.RESTART`: control tasks, without which
traffic still flows). Nobody else in the package calls `create_task`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from enum import Enum
from typing import TYPE_CHECKING, Self, TypeVar

from ztunnel.fields import fields

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from ztunnel.clock import Clock

log = logging.getLogger(__name__)

T = TypeVar("T")

# One second is long enough not to fill the log, 30 s short enough for a person who waits.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
# A run of this length counts as recovered: the pause starts from the first again.
RECOVERED_AFTER = 60.0


async def detached(name: str, call: Callable[[], T]) -> T:
    """What a call that blocks gives or raises, from a thread of its own that nobody waits for once its waiter is gone.

    Not `to_thread`, nor the loop's executor: their threads are joined when the loop ends, and a call that hangs, such
    as a name that no server answers for, would hold the end of the whole program.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = call()
        except BaseException as error:
            failure = error
        # The loop is closed if the program has ended meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, result, failure)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await outcome


class FailurePolicy(Enum):
    """What a task's exception means for the others."""

    RESTART = "restart"
    STOP = "stop"


class Tasks:
    """A task group whose members have names and rules; leaving it ends them all.

    async with Tasks(clock) as tasks:
        tasks.start("mesh file", source.watch, on_failure=FailurePolicy.RESTART)
        await stopped.wait()
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._group = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Opens the group."""
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancels what still runs and waits for it; raises what a task with `STOP` failed with."""
        for task in self._running:
            task.cancel()
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            # The body's own error and a single task's error come out as themselves.
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise

    def start(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        *,
        on_failure: FailurePolicy = FailurePolicy.STOP,
    ) -> None:
        """Starts `run()` under a name; with `RESTART` it is called again after each failure."""
        work = self._keep_running(name, run) if on_failure is FailurePolicy.RESTART else _once(run)
        task = self._group.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _keep_running(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        pause = FIRST_PAUSE
        while True:
            started = self._clock.now().monotonic
            try:
                await _until_cancelled(run)
            except Exception as error:
                cause = _innermost(error)
                if _is_told_to_end():
                    # Its cancellation is spent: whoever sleeps and starts again is never told once more.
                    log.error(
                        "task failed while it ended",
                        exc_info=cause,
                        extra=fields(task=name, error=cause),
                    )
                    return
                if self._clock.now().monotonic - started >= RECOVERED_AFTER:
                    pause = FIRST_PAUSE
                log.error(
                    "task failed and starts again",
                    exc_info=cause,
                    extra=fields(task=name, error=cause, pause=pause),
                )
            else:
                return
            await self._clock.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)


async def _until_cancelled(run: Callable[[], Awaitable[None]]) -> None:
    """Runs it; raises `CancelledError` only if somebody wants this task to end.

    A library that wakes its tasks by cancelling them, and loses count, would end one without a word.
    """
    try:
        await run()
    except asyncio.CancelledError as error:
        if _is_told_to_end():
            raise
        raise RuntimeError("cancelled by nobody; please report it") from error


def _is_told_to_end() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _innermost(error: Exception) -> Exception:
    """What happened: a group of one, which says no more than that something did, is a task group's way to put it."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def _once(run: Callable[[], Awaitable[None]]) -> None:
    await run()
