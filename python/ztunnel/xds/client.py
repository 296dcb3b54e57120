"""The stream of delta ADS: sockets, time and threads for `delta.py`, for as long as the node lives.

One stream at a time, and another one when it ends, whatever it ends for; the mesh that was learned stays meanwhile.
Applies an answer fully before it takes the next one; its ACK may go out together with those of answers that have come
with it. Knows nothing of gRPC: `wire.duplex` does.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random as system_random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from ztunnel.errors import DataPlaneClosed, EndpointError, StreamEnded
from ztunnel.fields import fields, span
from ztunnel.tasks import detached
from ztunnel.xds.backoff import Backoff, End, end_of
from ztunnel.xds.delta import TYPES, Absent, Apply, DeltaSubscription, Opened, Send
from ztunnel.xds.node import wire_node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from ztunnel.clock import Clock
    from ztunnel.dataplane.handle import DataPlane, DeltaResponse, Rejection
    from ztunnel.settings import XdsSettings
    from ztunnel.xds.delta import Begun, Effect, First

log = logging.getLogger(__name__)

# Reading and applying so many bytes is over before a thread for it would have begun; more is for a thread, since the event
# loop is shared by every other task.
INLINE = 64 * 1024
# As many names are written in a few milliseconds.
INLINE_NAMES = 1000
# Rejections of one answer in the log; the NACK names them all.
MAX_LINES = 20
# What grpc-go, gRPC's core and Java say of a message that is too large for them. The limiter of new streams uses the
# same status with other words (istio.md A3.2).
TOO_LARGE = ("larger than max", "exceeds maximum size", "too large")


class AdsStream(Protocol):
    """A stream to a control plane: `wire.duplex.Duplex`, or a test's. All methods raise `EndpointError`."""

    async def __aenter__(self) -> Self:
        """Connects."""
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def close(self) -> None:
        """Ends it; who waits for it is told `StreamLost`."""
        ...

    async def established(self) -> None:
        """Waits until the server has begun to answer."""
        ...

    def post(self, message: bytes) -> None:
        """Sends it, together with others, before `receive` waits or `flush` ends."""
        ...

    async def flush(self) -> None:
        """Sends what was posted."""
        ...

    async def receive(self) -> bytes | None:
        """The next message; None when the server has ended the stream well."""
        ...


@dataclass(slots=True)
class _Attempt:
    """One stream, from its beginning to its end."""

    number: int
    stream: AdsStream
    established: bool = False
    answered: bool = False
    largest: int = 0
    """Bytes of its largest first request."""
    error: EndpointError | None = None

    def about(self, **values: object) -> dict[str, object]:
        """What each of its log lines carries."""
        return {**span("xds", id=self.number), **fields(**values)}


class AdsClient:
    """Keeps the data plane's mesh as the control plane has it."""

    def __init__(
        self,
        settings: XdsSettings,
        *,
        data_plane: DataPlane,
        clock: Clock,
        connect: Callable[[], AdsStream],
        opened: Callable[[], None],
        random: Callable[[], float] = system_random.random,
    ) -> None:
        """`connect` makes a stream for one attempt; `opened` is called once, when the first sync is complete."""
        self._server = settings.endpoint
        self._data_plane = data_plane
        self._clock = clock
        self._connect = connect
        self._opened = opened
        self._backoff = Backoff(random)
        ledgers = {kind: data_plane.new_ledger() for kind in TYPES}
        self._subscription = DeltaSubscription(
            wire_node(settings.node), ledgers, on_demand=settings.on_demand
        )
        self._changed = asyncio.Event()
        self._streams = 0
        self._current: _Attempt | None = None

    def want(self, name: str) -> None:
        """A connection waits for this address, host name or uid."""
        for effect in self._subscription.want(name, self._now()):
            self._data_plane.not_there(effect.name)
        self._changed.set()

    async def run(self) -> None:
        """Learns until it is cancelled; returns only when the data plane is stopped."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._ask(), name="xds questions")
                while True:
                    self._streams += 1
                    attempt = _Attempt(self._streams, self._connect())
                    # In a task of its own, which takes with it what the library did to wake it.
                    await group.create_task(self._talk(attempt), name=f"xds {attempt.number}")
                    await self._clock.sleep(self._ended(attempt))
        except* DataPlaneClosed:
            pass  # whichever of the tasks was told first

    async def _talk(self, attempt: _Attempt) -> None:
        """One stream; its end stands in `attempt`."""
        try:
            async with attempt.stream as stream:
                await self._introduce(attempt)
                await stream.established()
                attempt.established = True
                log.info("Stream established", extra=attempt.about())
                while await self._one_answer(attempt):
                    attempt.answered = True
        except EndpointError as error:
            # Whoever closed the stream for a reason of its own has written that down before.
            attempt.error = attempt.error or error
        finally:
            self._current = None
            self._subscription.disconnected()

    async def _introduce(self, attempt: _Attempt) -> None:
        """The stream's first requests."""
        for first in self._subscription.connected():

            def make(first: First = first) -> tuple[Begun, bytes]:
                begun = first.perform()
                return begun, begun.request.encode()

            large = len(first.ledger) > INLINE_NAMES
            begun, message = await detached("xds", make) if large else make()
            self._subscription.begun(begun, self._now())
            attempt.largest = max(attempt.largest, len(message))
            attempt.stream.post(message)
            await attempt.stream.flush()
        self._subscription.introduced()
        self._current = attempt
        self._changed.set()

    async def _one_answer(self, attempt: _Attempt) -> bool:
        """Takes one answer, applies it, acknowledges it; False when there are no more.

        A function of its own, so that nothing holds the message while the next one is waited for.
        """
        message = await attempt.stream.receive()
        if message is None:
            return False
        large = len(message) > INLINE
        if large:
            # What is owed for others must not wait for what takes long.
            await attempt.stream.flush()
        read = functools.partial(self._read, message)
        response = await detached("xds", read) if large else read()
        answer = self._subscription.receive(response)
        apply = functools.partial(answer.perform, self._data_plane)
        rejections = await detached("xds", apply) if large else apply()
        self._tell(answer, rejections, attempt)
        self._perform(self._subscription.applied(rejections, self._now()), attempt)
        return True

    def _read(self, message: bytes) -> DeltaResponse:
        try:
            return self._data_plane.read_delta(message)
        except ValueError as error:
            raise EndpointError(
                f"{self._server} sent what is no answer of delta ADS: {error}"
            ) from None

    async def _ask(self) -> None:
        """Questions and their ends, whether there is a stream or not."""
        while True:
            self._changed.clear()
            attempt = self._current
            try:
                self._perform(self._subscription.next(self._now()), attempt)
                if attempt is not None:
                    await attempt.stream.flush()
            except EndpointError as error:
                if attempt is not None:
                    attempt.error = attempt.error or error
                    attempt.stream.close()
            await self._wait()

    async def _wait(self) -> None:
        """Until a question is due, or something changed."""
        wake_at = self._subscription.wake_at()
        if wake_at is None:
            await self._changed.wait()
            return
        async with asyncio.TaskGroup() as group:
            alarm = group.create_task(self._ring(wake_at - self._now()))
            await self._changed.wait()
            alarm.cancel()

    async def _ring(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._changed.set()

    def _perform(self, effects: Iterable[Effect], attempt: _Attempt | None) -> None:
        for effect in effects:
            match effect:
                case Send(request) if attempt is not None:
                    attempt.stream.post(request.encode())
                case Absent(name):
                    self._data_plane.not_there(name)
                case Opened():
                    self._opened()
                case Send() | Apply():
                    raise AssertionError("there is no stream that this could be about")

    def _ended(self, attempt: _Attempt) -> float:
        """Says what became of a stream; gives the seconds until the next one."""
        error = attempt.error
        end = end_of(error, established=attempt.established)
        self._data_plane.count_xds_end(end.value)
        pause = self._backoff.pause(end, answered=attempt.answered)
        hint = ""
        if isinstance(error, StreamEnded):
            hint = self._hint(error, attempt)
        about = attempt.about(
            server=self._server, error=f"{error}{hint}" if error else None, retry_s=round(pause, 3)
        )
        match end:
            case End.CONNECTION_ERROR:
                log.warning("XDS client connection error", extra=about)
            case End.ERROR:
                log.error("XDS client error", extra=about)
            case End.RECONNECT:
                log.info("XDS stream ended", extra=about)
            case End.COMPLETE:
                log.info("XDS stream complete", extra=about)
        return pause

    def _hint(self, ended: StreamEnded, attempt: _Attempt) -> str:
        """What to look at, after a semicolon. Learns from a size that was refused."""
        if ended.status == "RESOURCE_EXHAUSTED" and any(w in ended.message for w in TOO_LARGE):
            if self._subscription.too_large(_limit(ended.message, attempt.largest)):
                return "; the next stream begins without the versions that we hold"
            return "; a request that cannot be smaller: check the server's limit"
        if "authentication failure" in ended.message:
            return "; check the control plane's logs for its reason"
        if ended.status in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            return "; check AUTH_TOKEN, CLUSTER_ID and POD_NAMESPACE, and the control plane's logs"
        return ""

    def _tell(self, answer: Apply, rejections: Sequence[Rejection], attempt: _Attempt) -> None:
        """Of an answer, what operators should know."""
        response = answer.response
        if answer.ledger is None:
            log.error("unknown type", extra=attempt.about(type_url=response.type_url))
        for rejection in rejections[:MAX_LINES]:
            about = attempt.about(
                type_url=rejection.type_url, name=rejection.name, reason=rejection.reason
            )
            log.warning("the data plane did not take a resource", extra=about)
        if len(rejections) > MAX_LINES:
            about = attempt.about(type_url=response.type_url, more=len(rejections) - MAX_LINES)
            log.warning("and more; the answer to the control plane names them", extra=about)
        if log.isEnabledFor(logging.DEBUG):
            about = attempt.about(
                type_url=response.type_url, resources=response.count, removed=len(response.removed)
            )
            log.debug("received response", extra=about)

    def _now(self) -> float:
        return self._clock.now().monotonic


def _limit(message: str, refused: int) -> int:
    """How large a request may be, as a refusal says it, or well below what was refused."""
    said = re.search(r"vs\. ([0-9]{1,12})\)", message)
    return int(said[1]) if said and int(said[1]) < refused else refused * 3 // 4
