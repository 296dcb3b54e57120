"""Names that a connection waits for, one by one: what to ask, what to ask again, when to give up.

Part of the conversation in `delta.py`: pure, and handed the time. The control plane's habits make the rules (istio.md
A3.5): there is **no answer** for a name that it has sent already on this stream, an address that it did not know is not
followed, and what comes may have another name than what was asked for.

    want ──▶ NEW ──question──▶ ASKED ──1 s of silence──▶ ASKED AGAIN (unsubscribed first) ──5 s──▶ given up
                                  └────────── an answer by name, alias or removal ──────────▶ done
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# As long as upstream waits for a local workload, and a client for its connection (reliability F30).
PATIENCE = 5.0
# Silence means that the name counts as known there; or a slow server, who is then asked twice at most.
SILENCE = 1.0
# What nobody has is not asked for again at once: addresses outside of the mesh are the usual case.
ABSENCE = 5.0
# Bounds of memory and of what a control plane is burdened with. Connections beyond go on without the mesh's word.
MAX_WAITING = 1024
MAX_REMEMBERED = 16384


@dataclass(slots=True)
class _Waiting:
    """A name that somebody waits for."""

    until: float
    """When it is given up."""
    repeat_at: float | None = None
    """When to ask again; None: it has not been asked on this stream, or twice already."""
    new: bool = True


@dataclass(slots=True)
class Due:
    """What is to be done now."""

    subscribe: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    """Those among them to unsubscribe first."""
    given_up: list[str] = field(default_factory=list)


class Demands:
    """The names that are waited for, and what this stream and the last seconds have shown of others."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Waiting] = {}
        # Both by age, oldest first.
        self._asked: dict[str, None] = {}
        self._absent: dict[str, float] = {}
        self._connected = False

    @property
    def waiting(self) -> Sequence[str]:
        """What somebody waits for."""
        return list(self._waiting)

    def want(self, name: str, now: float) -> bool:
        """Somebody waits for it; False if that is of no use: nobody has it, or too many names are waited for."""
        if name in self._waiting:
            return True
        if self._absent.get(name, now) > now or len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting[name] = _Waiting(until=now + PATIENCE)
        return True

    def begin(self, asked: Iterable[str], now: float) -> None:
        """A stream begins, whose first request names `asked` (all that are waited for, or none)."""
        # What was given up in silence may be known to whoever answers now.
        self._asked, self._absent = {}, {}
        for each in self._waiting.values():
            each.new, each.repeat_at = True, None
        for name in asked:
            # Given up while the request was made: nobody waits any more.
            if name in self._waiting:
                self._ask(name, now)

    def connected(self) -> None:
        """The first requests are on their way, so that questions may follow."""
        self._connected = True

    def disconnected(self) -> None:
        """Nobody can be asked now; what is waited for is asked of the next stream, if that comes in time."""
        self._connected = False

    def due(self, now: float) -> Due:
        """What is to be asked and what to be given up; nothing of it is due again."""
        found = Due()
        for name, each in list(self._waiting.items()):
            if each.until <= now:
                found.given_up.append(name)
                self._forget(name, now)
            elif self._connected and each.new:
                found.subscribe.append(name)
                if name in self._asked:
                    found.again.append(name)
                self._ask(name, now)
            elif self._connected and each.repeat_at is not None and each.repeat_at <= now:
                found.subscribe.append(name)
                found.again.append(name)
                each.repeat_at = None
        return found

    def wake_at(self) -> float | None:
        """When something is due; None if nothing will be."""
        moments = [each.until for each in self._waiting.values()]
        if self._connected:
            moments += [0.0 for each in self._waiting.values() if each.new]
            repeats = (each.repeat_at for each in self._waiting.values())
            moments += [moment for moment in repeats if moment is not None]
        return min(moments, default=None)

    def answered(self, names: Iterable[str]) -> None:
        """They have come, by whatever name."""
        for name in names:
            self._waiting.pop(name, None)
            self._absent.pop(name, None)

    def absent(self, names: Iterable[str], now: float) -> None:
        """Nobody has them."""
        for name in names:
            self._forget(name, now)

    def _ask(self, name: str, now: float) -> None:
        each = self._waiting[name]
        each.new, each.repeat_at = False, now + SILENCE
        self._asked.pop(name, None)
        self._asked[name] = None
        # One that is forgotten here costs its next question a second, and nothing else.
        if len(self._asked) > MAX_REMEMBERED:
            del self._asked[next(iter(self._asked))]

    def _forget(self, name: str, now: float) -> None:
        self._waiting.pop(name, None)
        self._absent.pop(name, None)
        self._absent[name] = now + ABSENCE
        if len(self._absent) > MAX_REMEMBERED:
            del self._absent[next(iter(self._absent))]
