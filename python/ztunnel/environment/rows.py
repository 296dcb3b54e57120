"""Rows of upstream's environment, by their shape: what most variables have in common is said once.

Knows no variable; `table.py` has them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ztunnel.environment import kinds
from ztunnel.environment.variables import Variable

if TYPE_CHECKING:
    from ztunnel.environment.kinds import Kind

T = TypeVar("T")


def flag(name: str, default: bool, meaning: str, **more: Any) -> Variable[bool]:
    """`true` or `false`, which may be the default."""
    shown = "true" if default else "false"
    return Variable(
        name=name, kind=kinds.BOOLEAN, default=default, shown=shown, meaning=meaning, **more
    )


def switch(name: str, meaning: str, **more: Any) -> Variable[bool]:
    """Off, unless it says `true`; empty is off too."""
    return Variable(
        name=name, kind=kinds.SWITCH, default=False, shown="false", meaning=meaning, **more
    )


def text(name: str, default: str, meaning: str, **more: Any) -> Variable[str]:
    """Any text, with a default that is one."""
    shown = f"`{default}`" if default else "empty"
    return Variable(
        name=name, kind=kinds.TEXT, default=default, shown=shown, meaning=meaning, **more
    )


def whole(name: str, low: int, high: int, default: int, meaning: str) -> Variable[int]:
    """A whole number within bounds, both included."""
    kind = kinds.integer(low, high)
    return Variable(name=name, kind=kind, default=default, shown=str(default), meaning=meaning)


def duration(
    name: str, low: float, high: float, default: float, shown: str, meaning: str
) -> Variable[float]:
    """Seconds within bounds, both included; `shown` is the default as people write it."""
    kind = kinds.seconds(low, high)
    return Variable(name=name, kind=kind, default=default, shown=shown, meaning=meaning)


def maybe(
    name: str, kind: Kind[T], meaning: str, shown: str = "unset", **more: Any
) -> Variable[T | None]:
    """A variable that may be unset, which is a state of its own."""
    wider: Any = kind
    return Variable(name=name, kind=wider, default=None, shown=shown, meaning=meaning, **more)
