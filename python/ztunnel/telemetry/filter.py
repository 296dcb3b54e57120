"""Which log lines are wanted: a default level and levels for targets (spec/control.md §10.1).

Pure, and the counterpart of `rust/proxy/src/telemetry/log/filter.rs`: one text means the same to both halves.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

# Python knows these levels under other names than the ones that operators write.
LEVELS: Mapping[str, int] = {
    "trace": 5,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "off": logging.CRITICAL + 10,
}
NAMES = {number: name for name, number in LEVELS.items()}
# Upstream silences its DNS library this way; operators and their tools know the word.
PREFIX = "hickory_server::server=off"
# Targets that are no module, so that the package's name does not cover them.
SPECIAL = ("access", "dns")
PACKAGE = "ztunnel"


@dataclass(frozen=True, slots=True)
class Filter:
    """`info`, `debug,access=off`, `app=trace`: the longest target that a line's target begins with decides.

    As text: the longest target first, the default last.
    """

    targets: tuple[tuple[str, int], ...] = ()
    """Longest first."""
    default: int = LEVELS["info"]

    @classmethod
    def parse(cls, directives: str) -> Self:
        """`ValueError` names the first part that is no directive."""
        return cls().with_directives(directives)

    @classmethod
    def startup(cls, directives: str) -> Self:
        """What a log starts with and a reset goes back to: upstream's prefix, then `directives`."""
        return cls.parse(PREFIX).with_directives(directives)

    def with_directives(self, directives: str) -> Self:
        """This filter with more laid over it; the last word on a target wins."""
        targets, default = dict(self.targets), self.default
        for directive in directives.split(","):
            target, level = _read(directive.strip())
            if target:
                targets[target] = level
            else:
                default = level
        longest_first = sorted(targets.items(), key=lambda each: (len(each[0]), each[0]))
        return type(self)(tuple(reversed(longest_first)), default)

    @property
    def lowest(self) -> int:
        """No line below this level passes, whatever its target."""
        return min(self.default, *(level for _, level in self.targets), LEVELS["off"])

    def allows(self, level: int, target: str) -> bool:
        """Whether a line passes. Targets are known with and without the package's name."""
        for prefix, threshold in self.targets:
            if _covers(prefix, target):
                return level >= threshold
        return level >= self.default

    def __str__(self) -> str:
        parts = [f"{target}={NAMES[level]}" for target, level in self.targets]
        return ",".join([*parts, NAMES[self.default]])


def _read(directive: str) -> tuple[str, int]:
    """Target, or nothing, and level."""
    target, separator, level = _split(directive)
    number = LEVELS.get(level.lower())
    if number is None or bool(separator) != bool(target):
        raise ValueError(f"not a log level nor `target=level`: `{directive[:80]}`")
    return target, number


def _split(directive: str) -> tuple[str, str, str]:
    """`target=level`, or `target:level` as istioctl's help spells it; a `::` belongs to the target."""
    if "=" in directive or ":" not in directive.replace("::", ""):
        return directive.rpartition("=")
    return directive.rpartition(":")


def _covers(prefix: str, target: str) -> bool:
    bare = target.removeprefix(f"{PACKAGE}::")
    if prefix in (PACKAGE, f"{PACKAGE}::"):
        return bare not in SPECIAL
    return bare.startswith(prefix.removeprefix(f"{PACKAGE}::"))
