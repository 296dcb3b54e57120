"""Connections and the policies that they meet: each policy of `decode` alone, then all that were recorded together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .decode import POLICY, one, policies, resources

if TYPE_CHECKING:
    from . import Seeds

CONNECTIONS = (bytes(4), b"\x01\x08\x01\x01", b"\x03\x13\x03\x00")


def matcher() -> Seeds:
    """Four bytes that choose the connection, then policies."""
    known = policies()
    for name, value in known.items():
        yield name, CONNECTIONS[0] + one(POLICY, value)
    recorded = b"".join(one(kind, value) for kind, value in resources() if kind == POLICY)
    for number, connection in enumerate(CONNECTIONS):
        yield f"recorded_{number}", (connection + recorded)[:4096]
        yield (
            f"all_{number}",
            (connection + b"".join(one(POLICY, v) for v in known.values()))[:4096],
        )
    yield "none", CONNECTIONS[0]
