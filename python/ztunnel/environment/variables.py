"""An environment being read. Every mistake is kept, none ends the reading.

Unset takes the default, set and unreadable is fatal, and the empty text is set (spec/control.md §2.1). The
sentences add what would be right. What may be a secret is never shown (spec/reliability.md U10).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Generic, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ztunnel.environment.kinds import Kind

T = TypeVar("T")


class Status(Enum):
    """What becomes of a variable in this version."""

    BUILT = "built"
    """It does what it says."""
    UNBUILT = "warns"
    """Read and checked; a value that asks for something new is named in one warning."""
    REFUSED = "stops"
    """A value that asks for something new ends the start: going on without it would be unsafe."""
    ACCEPTED = "accepted"
    """Taken and without effect, as upstream takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable(Generic[T]):
    """One row of upstream's environment."""

    name: str
    kind: Kind[T]
    default: T
    shown: str
    """The default, as the reference shows it."""
    meaning: str
    status: Status = Status.BUILT
    about: str = ""
    """Of the status: what is missing."""
    idle: tuple[T, ...] = field(default=())
    """Values beside the default that ask for nothing which is not so already."""

    def is_idle(self, value: object) -> bool:
        """Whether a value asks for nothing new."""
        return value == self.default or value in self.idle


class Variables:
    """The environment, and what was found wrong in it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        # What is no UTF-8 counts as unset; Python keeps such bytes as lone surrogates.
        self._environ = {n: value for n, value in environ.items() if _is_utf8(n + value)}
        self.mistakes: list[str] = []
        self.complaints: list[str] = []
        """What upstream only logs, and goes on."""
        self.values: dict[str, object] = {}
        """Of every variable that was read, its value or its default."""

    def get(self, name: str) -> str | None:
        """The text of a variable, or None if it is unset."""
        return self._environ.get(name)

    def is_set(self, variable: Variable[T]) -> bool:
        """Whether it is there at all, be it empty or wrong."""
        return variable.name in self._environ

    def with_prefix(self, prefix: str) -> list[tuple[str, str]]:
        """`(rest of the name, text)` of every variable whose name begins so, in order."""
        found = sorted(self._environ.items())
        return [(n.removeprefix(prefix), text) for n, text in found if n.startswith(prefix)]

    def read(self, variable: Variable[T]) -> T:
        """Its value; the default if it is unset, or wrong, which is then noted, once."""
        if variable.name in self.values:
            return cast("T", self.values[variable.name])
        text, value = self.get(variable.name), variable.default
        if text is not None:
            try:
                value = variable.kind.read(text)
            except ValueError as error:
                self.mistake(variable.name, str(error) or f"must be {variable.kind.allowed}")
        self.values[variable.name] = value
        return value

    def mistake(self, name: str, reason: str) -> None:
        """Notes what is wrong with a variable that is set."""
        value = shown(name, self.get(name) or "")
        self.mistakes.append(_one_line(f"invalid env var {name}={value} ({reason})"))

    def missing(self, name: str, reason: str) -> None:
        """Notes that a variable is needed."""
        self.mistakes.append(f"missing env var {name} ({reason})")

    def wrong(self, name: str, reason: str) -> None:
        """The one or the other, as it is set or not."""
        (self.missing if self.get(name) is None else self.mistake)(name, reason)


def shown(name: str, text: str) -> str:
    """A value as messages show it: on one line, not too long, and not at all if it may be a secret."""
    if is_secret(name):
        return REDACTED
    text = _USER.sub("...@", text[:MAX_LOOKED_AT])
    cut = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
    return _one_line(cut)


def is_secret(name: str) -> bool:
    """Tokens, and headers, which may hold some."""
    return name == "AUTH_TOKEN" or name.startswith(SECRET_PREFIXES)


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


SECRET_PREFIXES = ("XDS_HEADER_", "CA_HEADER_")
REDACTED = "<redacted>"
MAX_SHOWN = 120
# `user:password@host`, with or without `https://` before it and whatever it stands in: it is refused, and should not
# stand in a log for it.
_USER = re.compile(r"[^/\s'\"@:]+:[^/\s@]*@|(?<=//)[^/\s]*@")
# The expression is quadratic in what it looks at.
MAX_LOOKED_AT = 4096
