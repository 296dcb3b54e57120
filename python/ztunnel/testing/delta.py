"""Answers of delta ADS and what is held of them, in Python: the plain counterpart of what Rust does compactly.

For tests of the control side without a data plane, and the oracle for the compiled one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ztunnel.wire.discovery import DeltaRequest, WireResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ztunnel.dataplane.handle import DeltaResponse


class ReadResponse:
    """A `DeltaDiscoveryResponse`, read whole. Follows the `DeltaResponse` protocol."""

    def __init__(self, message: bytes) -> None:
        """`NotProtobuf` if it is none."""
        read = WireResponse.decode(message)
        self.type_url, self.nonce = read.type_url, read.nonce
        self.resources, self.removed = read.resources, read.removed
        self.count = len(read.resources)
        self.payload = sum(len(each.value or b"") for each in read.resources)

    def answers(self, wanted: Sequence[str]) -> list[str]:
        """Those that are named, by whatever name."""
        known = {each.name for each in self.resources} | set(self.removed)
        known |= {alias for each in self.resources for alias in each.aliases}
        return [name for name in wanted if name in known]


class DictLedger:
    """Follows the `Ledger` protocol."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.held)

    def record(self, response: DeltaResponse, rejected: Sequence[str]) -> None:
        """Good ones come, removed ones go."""
        assert isinstance(response, ReadResponse)  # noqa: S101 - a mistake of the test's
        for each in response.resources:
            if each.name not in rejected:
                self.held[each.name] = each.version
        self.forget(response.removed)

    def forget(self, names: Sequence[str]) -> None:
        """They go."""
        for name in names:
            self.held.pop(name, None)

    def versions(self, limit: int) -> list[tuple[str, str]] | None:
        """All of them, if they fit."""
        found = sorted(self.held.items())
        size = len(DeltaRequest(type_url="", initial_versions=found).encode())
        return found if size <= limit else None

    def missing(self, response: DeltaResponse) -> list[str]:
        """Those that the answer does not bring."""
        assert isinstance(response, ReadResponse)  # noqa: S101 - a mistake of the test's
        brought = {each.name for each in response.resources}
        return sorted(name for name in self.held if name not in brought)
