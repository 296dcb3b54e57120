"""Single variables: present or not, and what their text must be. Every mistake is kept, none ends the reading.

The rules are upstream's (spec/control.md §2.1): unset takes the default, set and unreadable is fatal, and the
empty text is set. The sentences add what would be right.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Generic, TypeVar

from ztunnel.environment.durations import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


class Kind(Generic[T]):
    """A kind of value: how it is read, and what is allowed, for the message."""

    def __init__(self, read: Callable[[str], T], allowed: str) -> None:
        """`read` raises `ValueError` for what is not allowed."""
        self.read = read
        self.allowed = allowed


class Variables:
    """An environment being read."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        # What is no UTF-8 counts as unset; Python keeps such bytes as lone surrogates.
        self._environ = {name: value for name, value in environ.items() if _is_utf8(value)}
        self.mistakes: list[str] = []

    def get(self, name: str) -> str | None:
        """The text of a variable, or None if it is unset."""
        return self._environ.get(name)

    def names(self) -> list[str]:
        """Of every variable that is set."""
        return list(self._environ)

    def read(self, name: str, kind: Kind[T], default: T) -> T:
        """The value of a variable; `default` if it is unset, or wrong, which is then noted."""
        found = self.find(name, kind)
        return default if found is None else found

    def find(self, name: str, kind: Kind[T]) -> T | None:
        """The value of a variable, None if it is unset, or wrong, which is then noted."""
        text = self.get(name)
        if text is None:
            return None
        try:
            return kind.read(text)
        except ValueError as error:
            self.mistake(name, str(error) or f"must be {kind.allowed}")
            return None

    def mistake(self, name: str, reason: str) -> None:
        """Notes what is wrong with a variable that is set."""
        value = self._environ.get(name, "")
        shown = value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}..."
        self.mistakes.append(f"invalid env var {name}={_one_line(shown)} ({reason})")

    def missing(self, name: str, reason: str) -> None:
        """Notes that a variable is needed."""
        self.mistakes.append(f"missing env var {name} ({reason})")


def integer(low: int, high: int) -> Kind[int]:
    """Decimal digits, within bounds."""

    def read(text: str) -> int:
        if not _DECIMAL.fullmatch(text) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return Kind(read, f"a whole number from {low} to {high}")


def seconds(low: float, high: float) -> Kind[float]:
    """A duration within bounds."""

    def read(text: str) -> float:
        try:
            value = duration(text)
        except (ValueError, OverflowError):
            raise ValueError('must be a duration such as "30s" or "1h30m"') from None
        if not low <= value <= high:
            raise ValueError
        return value

    return Kind(read, f"a duration from {low:g} s to {high:g} s")


def choice(*words: str) -> Kind[str]:
    """One of a few words."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return Kind(read, " or ".join(words))


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


BOOLEAN = Kind(_truth, "true or false")
TEXT = Kind(str, "a text")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


# 20 digits hold every 64-bit number; a sign is taken as Rust's parser takes it.
_DECIMAL = re.compile(r"\+?[0-9]{1,20}")
MAX_SHOWN = 120
