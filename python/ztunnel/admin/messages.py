"""Requests and answers, as values between `connection`, which speaks HTTP, and `routes`, which decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked, without its body: no endpoint has a use for one."""

    method: str
    target: str
    """As it stands in the request line."""
    headers: tuple[tuple[str, str], ...] = ()
    """Names in lower case."""

    @property
    def path(self) -> str:
        """The target's path."""
        return self._after_authority().partition("?")[0]

    @property
    def query(self) -> str:
        """What stands behind the path's `?`, still encoded."""
        return self._after_authority().partition("?")[2]

    @property
    def host(self) -> str | None:
        """Whom the client believes to talk to; None if it did not say (HTTP/1.0)."""
        if not self.target.startswith("/") and "://" in self.target:
            # RFC 9112 §3.2.2: an absolute target goes before the header.
            return self.target.partition("://")[2].partition("/")[0].partition("?")[0]
        return self.header("host")

    def header(self, name: str) -> str | None:
        """The first header of this name."""
        return next((value for known, value in self.headers if known == name), None)

    def _after_authority(self) -> str:
        if self.target.startswith("/") or "://" not in self.target:
            return self.target
        rest = self.target.partition("://")[2]
        slash = rest.find("/")
        return rest[slash:] if slash >= 0 else "/"


class Body(Protocol):
    """An answer's text, while it is made. Whoever has one closes it."""

    async def next_piece(self) -> bytes:
        """The next piece, empty at the end."""
        ...

    def close(self) -> None:
        """Nobody reads on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is answered."""

    status: int
    kind: str | None = None
    """The content type; None if there is no content."""
    text: bytes = b""
    body: Body | None = None
    """Instead of `text`, one whose length nobody knows yet."""
    headers: tuple[tuple[str, str], ...] = ()


PLAIN = "text/plain"


def plain(status: int, text: str) -> Answer:
    """A text for a person."""
    return Answer(status=status, kind=PLAIN, text=text.encode())


def empty(status: int) -> Answer:
    """Nothing but the status."""
    return Answer(status=status)
