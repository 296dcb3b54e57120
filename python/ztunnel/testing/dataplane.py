"""A data plane that moves no byte and remembers everything it was told."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ztunnel.dataplane.handle import (
    TYPE_ISTIO_ADDRESS,
    TYPE_ISTIO_AUTHORIZATION,
    Resource,
)
from ztunnel.errors import DataPlaneClosed
from ztunnel.testing.delta import DictLedger, ReadResponse
from ztunnel.wire.protobuf import NotProtobuf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ztunnel.dataplane.handle import DeltaResponse, Ledger, PrivateKey, ResourceKey


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeEvent:
    """Something the data plane says."""

    kind: str
    identity: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeRejection:
    """Something the data plane does not take."""

    type_url: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class FakeKey:
    """A key that is its number."""

    number: int

    def csr(self, identity: str) -> bytes:
        """The identity, with the key's number."""
        return f"{identity} key {self.number}".encode()


class FakeDump:
    """A dump whose pieces are known."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def next_piece(self) -> bytes:
        """The next one."""
        return self.pieces.pop(0) if self.pieces else b""


class FakeProfile:
    """A profile whose stacks are known."""

    def __init__(self, stacks: Sequence[tuple[int, str, int, Sequence[int]]]) -> None:
        self.stacks = stacks
        self.finished = 0

    def finish(
        self,
    ) -> tuple[
        Sequence[tuple[int, str, int, Sequence[int]]],
        Mapping[int, Sequence[tuple[str, str, int]]],
        int,
    ]:
        """Every address is a function of its number."""
        self.finished += 1
        addresses = {address for *_, stack in self.stacks for address in stack}
        return self.stacks, {a: [(f"function_{a}", "fake.rs", a)] for a in addresses}, 0


STARTED_WITH = "info"
FAKE_LEVELS = ("off", "error", "warn", "info", "debug", "trace")


class FakeDataPlane:
    """Follows the `DataPlane` protocol; the attributes are what a test looks at."""

    def __init__(self, settings: bytes = b"{}") -> None:
        self.settings = settings
        self.resources: dict[ResourceKey, Resource] = {}
        self.applied: list[tuple[list[ResourceKey], list[ResourceKey]]] = []
        """Of each apply, the keys that came and the keys that went."""
        self.certificates: dict[str, bytes] = {}
        """The chain in use for each identity."""
        self.failures: dict[str, str] = {}
        """Why connections of an identity fail at once."""
        self.rejections: list[FakeRejection] = []
        """What the next apply answers."""
        self.refusal: Exception | None = None
        """What `install` raises, if anything."""
        self.synced = False
        self.xds_ends: list[str] = []
        """Of each stream that ended, why."""
        self.absent: list[str] = []
        """Names that nobody has."""
        self.crls: list[bytes] = []
        """Each list of revoked certificates."""
        self.stopped = threading.Event()
        self.idle = threading.Event()
        """Set: no connection is open, a drain ends by itself."""
        self.idle.set()
        self.drains: list[float] = []
        self.lags: list[float] = []
        """Of each turn of the event loop that was told, how late it was."""
        self.profiles: list[FakeProfile] = []
        """Each profile that was begun."""
        self.stacks: list[tuple[int, str, int, Sequence[int]]] = []
        """What they find."""
        self.filter = STARTED_WITH
        self.operators: list[str] = []
        self.bound: dict[str, str] = {"inbound": "127.0.0.1:15008"}
        self._events: list[FakeEvent] = []
        self._keys = 0
        self._event_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def say(self, *events: FakeEvent) -> None:
        """Puts events behind `event_fd`."""
        self._events.extend(events)
        os.eventfd_write(self._event_fd, 1)

    def close(self) -> None:
        """Gives the eventfd back; for the end of a test."""
        os.close(self._event_fd)

    @property
    def event_fd(self) -> int:
        """Readable while events wait."""
        return self._event_fd

    def start(self, operators: Sequence[str] = ()) -> dict[str, str]:
        """Opens nothing."""
        self.operators = list(operators)
        return dict(self.bound)

    def apply(
        self, resources: Sequence[Resource], removed: Sequence[ResourceKey]
    ) -> Sequence[FakeRejection]:
        """Remembers, and answers with `rejections` once."""
        self._refuse_if_stopped()
        self.applied.append(([resource.key for resource in resources], list(removed)))
        self.resources.update((resource.key, resource) for resource in resources)
        for key in removed:
            del self.resources[key]
        answer, self.rejections = self.rejections, []
        return answer

    def read_delta(self, message: bytes) -> DeltaResponse:
        """Reads it whole."""
        try:
            return ReadResponse(message)
        except NotProtobuf as error:
            raise ValueError(str(error)) from None

    def new_ledger(self) -> Ledger:
        """One in Python."""
        return DictLedger()

    def apply_delta(
        self, response: DeltaResponse, also_removed: Sequence[str] = ()
    ) -> Sequence[FakeRejection]:
        """Remembers, and answers with `rejections` once; what is rejected is not taken."""
        self._refuse_if_stopped()
        assert isinstance(response, ReadResponse)  # noqa: S101 - a mistake of the test's
        answer, self.rejections = self.rejections, []
        refused = {rejection.name for rejection in answer}
        type_url = response.type_url
        if type_url not in (TYPE_ISTIO_ADDRESS, TYPE_ISTIO_AUTHORIZATION):
            return []
        taken = [
            Resource(type_url=type_url, name=each.name, value=each.value)
            for each in response.resources
            if each.value is not None and each.name not in refused
        ]
        gone = [(type_url, name) for name in [*response.removed, *also_removed]]
        self.applied.append(([resource.key for resource in taken], gone))
        self.resources.update((resource.key, resource) for resource in taken)
        for key in gone:
            self.resources.pop(key, None)
        return answer

    def count_xds_end(self, reason: str) -> None:
        """Remembers."""
        self.xds_ends.append(reason)

    def not_there(self, name: str) -> None:
        """Remembers."""
        self.absent.append(name)

    def revoke(self, crl: bytes) -> int:
        """Remembers, or raises `refusal`."""
        if self.refusal is not None:
            raise self.refusal
        self.crls.append(crl)
        return 0

    def mark_synced(self) -> None:
        """Remembers."""
        self.synced = True

    def new_key(self) -> FakeKey:
        """The next number."""
        self._keys += 1
        return FakeKey(self._keys)

    def install(self, identity: str, key: PrivateKey, chain: bytes, roots: bytes) -> None:
        """Remembers the chain, or raises `refusal`."""
        self._refuse_if_stopped()
        del key, roots
        if self.refusal is not None:
            raise self.refusal
        self.certificates[identity] = chain
        self.failures.pop(identity, None)

    def no_certificate(self, identity: str, reason: str) -> None:
        """Remembers, until there is one."""
        self._refuse_if_stopped()
        self.failures[identity] = reason

    def forget(self, identity: str) -> None:
        """Drops the chain."""
        self.certificates.pop(identity, None)
        self.failures.pop(identity, None)

    def take_events(self) -> Sequence[FakeEvent]:
        """Everything said, once."""
        os.eventfd_read(self._event_fd)
        taken, self._events = self._events, []
        return taken

    def metrics(self) -> bytes:
        """An empty page."""
        return b"# EOF\n"

    def dump(self, section: str) -> bytes:
        """An empty list."""
        del section
        return b"[]"

    def open_dump(self, sections: Mapping[str, bytes]) -> FakeDump:
        """The sections, in one piece."""
        names = sorted(sections)
        members = b",".join(b'"%s":%s' % (name.encode(), sections[name]) for name in names)
        return FakeDump([b"{%s}" % members])

    def start_profile(self, period: float, skipped: Sequence[int]) -> FakeProfile:
        """Remembers it."""
        del period, skipped
        self.profiles.append(FakeProfile(self.stacks))
        return self.profiles[-1]

    def allocator_figures(self) -> Mapping[str, int]:
        """A small heap."""
        return {"arenas": 4096, "used": 1024, "free": 3072, "mapped": 0}

    def log_filter(self) -> str:
        """What was asked for last."""
        return self.filter

    def change_log_filter(self, reset: bool, directives: str | None) -> str:
        """Knows the words of levels and nothing else."""
        if directives is not None and directives.rpartition("=")[2] not in FAKE_LEVELS:
            raise ValueError(directives)
        parts = [STARTED_WITH if reset else self.filter, directives]
        self.filter = ",".join(part for part in parts if part)
        return self.filter

    def loop_turned(self, late: float, period: float) -> None:
        """Remembers how late."""
        del period
        self.lags.append(late)

    def heartbeats(self) -> Sequence[float]:
        """One worker, well."""
        return [0.0]

    def drain(self, deadline: float) -> bool:
        """Ends when `idle` is set or the data plane is stopped. Waits in real time: keep deadlines short."""
        self.drains.append(deadline)
        return self.idle.wait(deadline) if deadline > 0 else self.idle.is_set()

    def stop(self) -> None:
        """Ends a drain as well."""
        self.stopped.set()
        self.idle.set()

    def _refuse_if_stopped(self) -> None:
        if self.stopped.is_set():
            raise DataPlaneClosed("the data plane was stopped")
