"""A YAML document as a tree that remembers where everything stood.

Values are not interpreted here: a scalar is its text and whether it was quoted. What `no`, `0777` or `1e3`
mean is decided by the check that expects a value (`checks.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True, eq=False)
class Node:
    """Something in a document. Line and column count from 1."""

    line: int
    column: int
    tag: str | None
    """The tag as written without its first `!`, for example `Exact`; None if there is none."""


@dataclass(slots=True, eq=False)
class Scalar(Node):
    """A text, a number, a truth, or nothing."""

    text: str
    quoted: bool

    @property
    def is_null(self) -> bool:
        """Nothing was written, or one of the YAML 1.2 spellings of nothing."""
        return not self.quoted and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(slots=True, eq=False)
class Listing(Node):
    """A sequence."""

    items: list[Node] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Table(Node):
    """A mapping. Keys are scalars and occur once: `compose.py` sees to it."""

    entries: dict[str, tuple[Scalar, Node]] = field(default_factory=dict)

    def get(self, key: str) -> Node | None:
        """The value under a key, or None if it is absent or null."""
        found = self.entries.get(key)
        if found is None or (isinstance(found[1], Scalar) and found[1].is_null):
            return None
        return found[1]

    def __iter__(self) -> Iterator[tuple[Scalar, Node]]:
        """Keys with their values, in the order of the file."""
        return iter(self.entries.values())
