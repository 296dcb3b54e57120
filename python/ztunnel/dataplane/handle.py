"""What a data plane is to Python, whoever carries it.

What a method means stands in `_ztunnel.pyi`, once; here only what is not there, or not under the same name.
`native.py` is the compiled one in this process; `ztunnel.testing.FakeDataPlane` remembers what it was told.
A data plane in a process of its own would be a third (architecture §6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TYPE_WORKLOAD = "ztunnel.local/Workload"
TYPE_SERVICE = "ztunnel.local/Service"
TYPE_AUTHORIZATION = "ztunnel.local/Authorization"
# As istiod sends them. One type for workloads and services, named `uid` or `namespace/hostname`.
TYPE_ISTIO_ADDRESS = "type.googleapis.com/istio.workload.Address"
TYPE_ISTIO_AUTHORIZATION = "type.googleapis.com/istio.security.Authorization"

ResourceKey = tuple[str, str]
"""The key of a resource: `(type_url, name)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One thing of the mesh, as the bytes that Rust decodes."""

    type_url: str
    name: str
    value: bytes

    @property
    def key(self) -> ResourceKey:
        """What identifies it."""
        return self.type_url, self.name


class Rejection(Protocol):
    """A resource that was not applied, and why."""

    @property
    def type_url(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def reason(self) -> str: ...


class Event(Protocol):
    """What a data plane has to say."""

    @property
    def kind(self) -> str: ...
    @property
    def identity(self) -> str | None: ...
    @property
    def detail(self) -> str: ...


class PrivateKey(Protocol):
    """A key whose secret stays where it was made."""

    def csr(self, identity: str) -> bytes:
        """A signing request (PEM PKCS#10) for a SPIFFE ID."""
        ...


class Dump(Protocol):
    """A configuration dump that is written while it is read."""

    def next_piece(self) -> bytes: ...


class CpuProfile(Protocol):
    """Where threads spend their time, while it is taken."""

    def finish(
        self,
    ) -> tuple[
        Sequence[tuple[int, str, int, Sequence[int]]],
        Mapping[int, Sequence[tuple[str, str, int]]],
        int,
    ]:
        """Stacks (thread, its name, periods, addresses from the innermost on), what addresses are, samples lost."""
        ...


class DeltaResponse(Protocol):
    """One answer of delta ADS, read as far as the control side needs it; its resources stay where they are."""

    @property
    def type_url(self) -> str: ...
    @property
    def nonce(self) -> str: ...
    @property
    def count(self) -> int: ...
    @property
    def payload(self) -> int:
        """Bytes of all its resources, as `istio_xds_message_bytes` counts them."""
        ...

    @property
    def removed(self) -> Sequence[str]: ...
    def answers(self, wanted: Sequence[str]) -> Sequence[str]: ...


class Ledger(Protocol):
    """Names and versions that are held of one type, for resuming (spec/control.md §4.5, §4.6)."""

    def __len__(self) -> int: ...
    def record(self, response: DeltaResponse, rejected: Sequence[str]) -> None: ...
    def forget(self, names: Sequence[str]) -> None: ...
    def versions(self, limit: int) -> list[tuple[str, str]] | None: ...
    def missing(self, response: DeltaResponse) -> list[str]: ...


class DataPlane(Protocol):
    """Listeners, workers, tunnels."""

    @property
    def event_fd(self) -> int: ...
    def start(self, operators: Sequence[str] = ()) -> dict[str, str]: ...
    def apply(
        self, resources: Sequence[Resource], removed: Sequence[ResourceKey]
    ) -> Sequence[Rejection]: ...
    def read_delta(self, message: bytes) -> DeltaResponse:
        """A `DeltaDiscoveryResponse` as it came from the wire; `ValueError` if it is none."""
        ...

    def new_ledger(self) -> Ledger:
        """One that holds nothing."""
        ...

    def apply_delta(
        self, response: DeltaResponse, also_removed: Sequence[str] = ()
    ) -> Sequence[Rejection]: ...
    def count_xds_end(self, reason: str) -> None: ...
    def not_there(self, name: str) -> None: ...
    def revoke(self, crl: bytes) -> int: ...
    def mark_synced(self) -> None: ...
    def new_key(self) -> PrivateKey:
        """A fresh key of the kind that `install` takes back."""
        ...

    def install(self, identity: str, key: PrivateKey, chain: bytes, roots: bytes) -> None: ...
    def no_certificate(self, identity: str, reason: str) -> None: ...
    def forget(self, identity: str) -> None: ...
    def take_events(self) -> Sequence[Event]: ...
    def metrics(self) -> bytes: ...
    def dump(self, section: str) -> bytes: ...
    def open_dump(self, sections: Mapping[str, bytes]) -> Dump: ...
    def start_profile(self, period: float, skipped: Sequence[int]) -> CpuProfile: ...
    def allocator_figures(self) -> Mapping[str, int]: ...
    def log_filter(self) -> str: ...
    def change_log_filter(self, reset: bool, directives: str | None) -> str: ...
    def loop_turned(self, late: float, period: float) -> None: ...
    def heartbeats(self) -> Sequence[float]: ...
    def drain(self, deadline: float) -> bool: ...
    def stop(self) -> None: ...
