"""The compiled half of ztunnel: what Rust offers to Python, whole.

Hand-written and checked against the module by stubtest. Only `ztunnel.dataplane` imports it. Every call
gives up the interpreter lock while Rust works, and Rust never calls Python: what it has to say waits
behind `DataPlane.event_fd`. All classes are final and immutable from outside.

Raises `ztunnel.errors.SettingsError`, `CredentialError` and `DataPlaneClosed`; operating-system trouble is
`OSError` with its errno.
"""

from collections.abc import Mapping, Sequence
from typing import final

__all__ = [
    "CpuProfile",
    "DataPlane",
    "DeltaResponse",
    "Dump",
    "Event",
    "Ledger",
    "Mesh",
    "PrivateKey",
    "Rejection",
    "Resource",
    "allocator_figures",
    "build",
    "forbid_dumps",
    "validity",
    "version",
]

def version() -> str:
    """The version of the compiled half, equal to the package's."""

def build() -> tuple[str, str, str, str]:
    """Of this build: the commit, `Clean` or `Modified`, the compiler's version, the profile; or `unknown`."""

def forbid_dumps() -> None:
    """From now on this process leaves no core behind, and others of the same user cannot read its memory. `OSError`."""

def allocator_figures() -> dict[str, int]:
    """What the C library's allocator holds: `arenas`, `used`, `free`, `mapped`, in bytes; empty where it does not say."""

def validity(chain: bytes) -> tuple[float, float]:
    """When the leaf of a chain (PEM) counts: `(not_before, not_after)`, seconds since 1970.

    `CredentialError` if there is no leaf or it cannot be read; whether it is any good is for `install` to say.
    """

@final
class DataPlane:
    """Listeners, workers, tunnels. Does nothing before `start`."""

    def __new__(cls, settings: bytes) -> DataPlane:
        """Checks `settings` (JSON, see `ztunnel.settings.NodeSettings.to_native`); opens nothing yet."""

    def start(self, operators: Sequence[str] = ...) -> dict[str, str]:
        """Opens the listeners and starts the workers; gives `listener name → "ip:port"` as bound.

        `operators` (`"ip:port"`) are where the control side listens: no tunnel leads there.
        """

    def apply(
        self, resources: Sequence[Resource], removed: Sequence[tuple[str, str]]
    ) -> list[Rejection]:
        """Inserts or replaces `resources`, forgets `removed` (`(type_url, name)`), in one step.

        A resource that cannot be used is left out and reported; the others are applied.
        """

    def apply_delta(self, response: DeltaResponse, also_removed: Sequence[str]) -> list[Rejection]:
        """Applies an answer of delta ADS in one step: its resources, then what it says is gone, then `also_removed`.

        A resource that cannot be used is left out and reported; the others are applied. Counts the message and its
        bytes (`istio_xds_message`, `istio_xds_message_bytes`).
        """

    def count_xds_end(self, reason: str) -> None:
        """One more of `istio_xds_connection_terminations`; `ValueError` for a reason that control §4.7 does not have."""

    def not_there(self, name: str) -> None:
        """Nobody has the resource that `resource_wanted` asked for: connections that wait for it go on without it."""

    def revoke(self, crl: bytes) -> int:
        """Replaces the list of revoked certificates (any number of CRLs in PEM, or one in DER; empty: none).

        Cuts the live tunnels of those who are on it, in both directions. Gives how many serial numbers are listed.
        `CredentialError` for what is no CRL: the last good list stays.
        """

    def mark_synced(self) -> None:
        """The first configuration is complete: readiness may say yes."""

    def install(self, identity: str, key: PrivateKey, chain: bytes, roots: bytes) -> None:
        """Publishes a certificate (PEM, leaf first) for new handshakes; running tunnels go on.

        `CredentialError` if key, leaf, identity and roots do not belong together; the one in use stays.
        """

    def no_certificate(self, identity: str, reason: str) -> None:
        """Nobody signs for this identity now: connections that need its certificate fail with the reason at once.

        Until one is installed or it is forgotten. Where there is one, it stays in use.
        """

    def forget(self, identity: str) -> None:
        """Drops the certificate of an identity. Nothing happens if there is none."""

    @property
    def event_fd(self) -> int:
        """An eventfd that is readable while events wait. Owned by the data plane: never close it."""

    def take_events(self) -> list[Event]:
        """Takes every waiting event and makes `event_fd` quiet again."""

    def metrics(self) -> bytes:
        """The OpenMetrics page, as port 15020 serves it."""

    def dump(self, section: str) -> bytes:
        """One section of the configuration dump as JSON: `workloads`, `services`, `policies`, …"""

    def open_dump(self, sections: Mapping[str, bytes]) -> Dump:
        """The whole configuration dump of this moment, pretty, with sorted keys, to be read piece by piece.

        `sections` are those that Python knows, as JSON; `ValueError` if one is not. A name that Rust has as well means
        the given one.
        """

    def log_filter(self) -> str:
        """Which lines the log wants now: `target=level` in the order in which they are tried, the default last."""

    def change_log_filter(self, reset: bool, directives: str | None) -> str:
        """Lays directives over the filter, or over the one of the start; gives what it is now.

        `ValueError` for what is no directive; then nothing has changed.
        """

    def loop_turned(self, late: float, period: float) -> None:
        """The event loop of the control side has turned, `late` seconds after it wanted to, and will again in `period`.

        `ztunnel_control_loop_lag_seconds` shows the longest of the last minute, or how long it has been silent.
        """

    def heartbeats(self) -> list[float]:
        """Seconds since each worker last turned its loop."""

    def drain(self, deadline: float) -> bool:
        """Stops accepting and waits up to `deadline` seconds; True if every connection ended by itself.

        Blocks the calling thread without the interpreter lock. `stop` ends it early.
        """

    def stop(self) -> None:
        """Ends everything at once. May be called again and from any thread."""

@final
class DeltaResponse:
    """One answer of delta ADS (`DeltaDiscoveryResponse`), read as far as the control side needs it.

    Its resources stay in Rust; what stands in `value` of each is decoded by `apply_delta`.
    """

    def __new__(cls, message: bytes) -> DeltaResponse:
        """Reads a message as it came from the wire; `ValueError` if it is none. Keeps it, makes no copy."""

    @property
    def type_url(self) -> str: ...
    @property
    def nonce(self) -> str: ...
    @property
    def count(self) -> int:
        """How many resources it brings."""

    @property
    def payload(self) -> int:
        """Bytes of all its resources together."""

    @property
    def removed(self) -> list[str]:
        """Names of what is gone."""

    def answers(self, wanted: Sequence[str]) -> list[str]:
        """Those of `wanted` that a resource has as its name or as an alias, or that are said to be gone."""

@final
class Ledger:
    """Names and versions held of one type, compactly. May be used from any thread."""

    def __new__(cls) -> Ledger: ...
    def __len__(self) -> int: ...
    def record(self, response: DeltaResponse, rejected: Sequence[str]) -> None:
        """What came is held in its version, except the `rejected`, of which nothing changes; what went is not."""

    def forget(self, names: Sequence[str]) -> None:
        """These are not held any more."""

    def versions(self, limit: int) -> list[tuple[str, str]] | None:
        """By name, all that is held; None if `initial_resource_versions` would take more than `limit` bytes."""

    def missing(self, response: DeltaResponse) -> list[str]:
        """What is held and not among the resources of `response`, by name."""

@final
class Dump:
    """A configuration dump that is written while it is read. A thread of Rust's keeps a few pieces ahead."""

    def next_piece(self) -> bytes:
        """The next piece of the text, empty at the end. `OSError` if the dump ends before its end.

        May wait some milliseconds, without the interpreter lock.
        """

@final
class CpuProfile:
    """Samples the stacks of all threads but some, by their own CPU time, until it is finished or dropped.

    One at a time in a process. Uses SIGPROF, which stays ours from then on.
    """

    def __new__(cls, period: float, skipped: Sequence[int]) -> CpuProfile:
        """Begins: a sample every `period` seconds of a thread's time. `skipped` are threads by their native numbers.

        `OSError` while another one is taken, or if SIGPROF is somebody else's; `ValueError` for less than a millisecond.
        """

    def finish(
        self,
    ) -> tuple[list[tuple[int, str, int, list[int]]], dict[int, list[tuple[str, str, int]]], int]:
        """Ends it: stacks, what their addresses are, and how many samples were lost.

        A stack is a thread's number and name, periods, and addresses from the innermost on; an address has functions
        from the innermost on: name, file, line (empty and zero without debug information). Blocks for a second or so,
        without the interpreter lock. Nothing the second time.
        """

@final
class PrivateKey:
    """A private key that never becomes Python bytes."""

    @staticmethod
    def generate() -> PrivateKey:
        """A fresh ECDSA P-256 key."""

    def csr(self, identity: str) -> bytes:
        """A signing request (PEM PKCS#10) for a SPIFFE ID, signed by this key."""

@final
class Resource:
    """One thing of the mesh, as bytes."""

    def __new__(cls, *, type_url: str, name: str, value: bytes) -> Resource: ...
    @property
    def type_url(self) -> str:
        """What it is: `ztunnel.local/{Workload,Service,Authorization}`, an object of the local file as JSON, or
        `type.googleapis.com/istio.{workload.Address,security.Authorization}`, Istio's protobuf.
        """

    @property
    def name(self) -> str:
        """Its key: a workload's uid, `namespace/hostname`, `namespace/name`."""

    @property
    def value(self) -> bytes:
        """The thing itself, in the encoding that `type_url` names."""

@final
class Rejection:
    """A resource that was not applied, and why."""

    @property
    def type_url(self) -> str:
        """As in the resource."""

    @property
    def name(self) -> str:
        """As in the resource."""

    @property
    def reason(self) -> str:
        """One sentence."""

@final
class Event:
    """What the data plane has to say."""

    @property
    def kind(self) -> str:
        """`credential_wanted`, `credential_idle`, `resource_wanted`, `overflow` or `worker_failed`."""

    @property
    def identity(self) -> str | None:
        """The SPIFFE ID it is about, if it is about one."""

    @property
    def detail(self) -> str:
        """`warmup` or `now` for `credential_wanted`, the name for `resource_wanted`; else a sentence, or nothing."""

@final
class Mesh:
    """The production matcher, offline: the same decisions, asked by tools."""

    def __new__(cls, resources: Sequence[Resource]) -> Mesh: ...
    def route(self, facts: bytes) -> bytes:
        """Where a connection would go (JSON in, JSON out)."""

    def authorize(self, facts: bytes) -> bytes:
        """Whether a connection may pass (JSON in, JSON out)."""

    def inbound(self, facts: bytes) -> bytes:
        """Where a request or a plain connection would go at its destination (JSON in, JSON out)."""

    def explain(self, facts: bytes) -> bytes:
        """All that the facts suffice for, with the reasons written down (JSON in, JSON out)."""
