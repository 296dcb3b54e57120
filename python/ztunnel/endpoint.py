"""Where a server of the control plane is, whom to believe there and what to say to it.

Values only; `wire.channel` opens the connection. The same for the certificate authority and for what will
deliver the mesh (spec/control.md §4.1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class RootFile:
    """Trust the certificates in a file, as it is at each new connection."""

    path: Path


@dataclass(frozen=True, slots=True)
class RootText:
    """Trust the certificates in a PEM text."""

    pem: str


@dataclass(frozen=True, slots=True)
class SystemRoots:
    """Trust whom the machine trusts."""


Roots: TypeAlias = RootFile | RootText | SystemRoots


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A token that somebody renews: read for each request."""

    path: Path


@dataclass(frozen=True, slots=True)
class TokenText:
    """A token that stays."""

    text: str = field(repr=False)


Token: TypeAlias = TokenFile | TokenText | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A gRPC server, reached over TLS."""

    host: str
    port: int
    roots: Roots
    other_name: str | None = None
    """A second name that its certificate may have instead of `host`."""
    token: Token = None
    cluster_id: str
    mark: int | None = None
    """SO_MARK of the connection, so that capture rules leave it alone."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Further metadata of each request; often a token (spec/reliability.md U10)."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
