"""The compiled data plane in this process: the only file that imports `ztunnel._ztunnel`.

Translates values at the door and decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ztunnel.errors import CredentialError, NativeModuleMissing

try:
    from ztunnel import _ztunnel
except ImportError as error:
    raise NativeModuleMissing(
        f"the compiled half of ztunnel is missing; build it with `make build`: {error}"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ztunnel.dataplane.handle import (
        CpuProfile,
        DeltaResponse,
        Dump,
        Event,
        Ledger,
        PrivateKey,
        Rejection,
        Resource,
        ResourceKey,
    )


def native_version() -> str:
    """The version of the compiled half."""
    return _ztunnel.version()


def native_build() -> tuple[str, str, str, str]:
    """Commit, `Clean` or `Modified`, compiler and profile of the compiled half."""
    return _ztunnel.build()


def forbid_dumps() -> None:
    """No core of this process, and no look into its memory for others of the same user; `OSError`."""
    _ztunnel.forbid_dumps()


def validity(chain: bytes) -> tuple[float, float]:
    """When the leaf of a chain (PEM) counts: `(not_before, not_after)`, seconds since 1970."""
    return _ztunnel.validity(chain)


class NativeDataPlane:
    """Listeners, workers and tunnels of `_ztunnel.DataPlane`, as the `DataPlane` protocol spells them."""

    def __init__(self, settings: bytes) -> None:
        self._native = _ztunnel.DataPlane(settings)

    @property
    def event_fd(self) -> int:
        """Readable while events wait; owned by the data plane."""
        return self._native.event_fd

    def start(self, operators: Sequence[str] = ()) -> dict[str, str]:
        """Opens the listeners and starts the workers."""
        return self._native.start(list(operators))

    def apply(
        self, resources: Sequence[Resource], removed: Sequence[ResourceKey]
    ) -> Sequence[Rejection]:
        """Inserts, replaces and forgets, in one step."""
        upserts = [
            _ztunnel.Resource(type_url=r.type_url, name=r.name, value=r.value) for r in resources
        ]
        return self._native.apply(upserts, list(removed))

    def read_delta(self, message: bytes) -> DeltaResponse:
        """An answer of delta ADS; its resources stay in Rust."""
        return _ztunnel.DeltaResponse(message)

    def new_ledger(self) -> Ledger:
        """One that holds nothing."""
        # It takes only what `read_delta` gave: anything else is a `TypeError`.
        return cast("Ledger", _ztunnel.Ledger())

    def apply_delta(
        self, response: DeltaResponse, also_removed: Sequence[str] = ()
    ) -> Sequence[Rejection]:
        """Applies an answer in one step."""
        if not isinstance(response, _ztunnel.DeltaResponse):
            raise TypeError(f"not an answer that this data plane has read: {type(response)}")
        return self._native.apply_delta(response, list(also_removed))

    def count_xds_end(self, reason: str) -> None:
        """A stream ended."""
        self._native.count_xds_end(reason)

    def not_there(self, name: str) -> None:
        """Nobody has this resource."""
        self._native.not_there(name)

    def revoke(self, crl: bytes) -> int:
        """Certificates that count no more; gives how many are listed."""
        return self._native.revoke(crl)

    def mark_synced(self) -> None:
        """Readiness may say yes."""
        self._native.mark_synced()

    def new_key(self) -> PrivateKey:
        """A fresh key; its secret stays in Rust."""
        return _ztunnel.PrivateKey.generate()

    def install(self, identity: str, key: PrivateKey, chain: bytes, roots: bytes) -> None:
        """Publishes a certificate for new handshakes."""
        if not isinstance(key, _ztunnel.PrivateKey):
            raise CredentialError(f"not a key of this data plane: {type(key).__name__}")
        self._native.install(identity, key, chain, roots)

    def no_certificate(self, identity: str, reason: str) -> None:
        """Connections that need it fail at once, with this reason."""
        self._native.no_certificate(identity, reason)

    def forget(self, identity: str) -> None:
        """Drops the certificate of an identity."""
        self._native.forget(identity)

    def take_events(self) -> Sequence[Event]:
        """Takes every waiting event."""
        return self._native.take_events()

    def metrics(self) -> bytes:
        """The OpenMetrics page."""
        return self._native.metrics()

    def dump(self, section: str) -> bytes:
        """One section of the configuration dump, as JSON."""
        return self._native.dump(section)

    def open_dump(self, sections: Mapping[str, bytes]) -> Dump:
        """The whole configuration dump, beside Rust's sections with these."""
        return self._native.open_dump(sections)

    def start_profile(self, period: float, skipped: Sequence[int]) -> CpuProfile:
        """Samples the stacks of this process's threads but some."""
        return _ztunnel.CpuProfile(period, list(skipped))

    def allocator_figures(self) -> Mapping[str, int]:
        """What the C library's allocator holds, in bytes."""
        return _ztunnel.allocator_figures()

    def log_filter(self) -> str:
        """Which lines the log wants."""
        return self._native.log_filter()

    def change_log_filter(self, reset: bool, directives: str | None) -> str:
        """Lays directives over it, or over the one of the start."""
        return self._native.change_log_filter(reset, directives)

    def loop_turned(self, late: float, period: float) -> None:
        """The event loop has turned, so many seconds late."""
        self._native.loop_turned(late, period)

    def heartbeats(self) -> Sequence[float]:
        """Seconds since each worker last turned its loop."""
        return self._native.heartbeats()

    def drain(self, deadline: float) -> bool:
        """Blocks up to `deadline` seconds; True if every connection ended by itself."""
        return self._native.drain(deadline)

    def stop(self) -> None:
        """Ends everything at once."""
        self._native.stop()
