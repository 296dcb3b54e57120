"""The life of certificates as a conversation: wishes and answers in, effects out.

Never sleeps, looks at no clock, draws no random number of its own; `manager.py` does all three for it.
The rules are spec/control.md §7.4, with jitter on renewal (reliability §2 U13) and with clocks that jump
(F28): waiting is counted on the monotonic clock, validity on the wall clock.

    absent ──want──▶ QUEUED ──Request──▶ IN FLIGHT ──issued──▶ PLANNED (renewal at half-life ± 10 %)
                       ▲                    │ failed              │
                       │                    ▼                     │ due, or the wall clock jumped
                       └──── due ────── BACKING OFF ◀──failed─────┘   (the old certificate stays in use)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from ztunnel.clock import Now
    from ztunnel.identity.spiffe import Identity


class Priority(IntEnum):
    """Who goes first when more are wanted than may be asked for at once."""

    BACKGROUND = 0
    """A renewal; there is still a certificate in use."""
    WARMUP = 1
    """A workload that has no connection yet."""
    REALTIME = 2
    """A connection is waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """When a certificate counts, on the wall clock."""

    not_before: float
    not_after: float

    def doubt(self, wall: float) -> str | None:
        """Why peers will not believe it at this time, if they will not."""
        if self.not_after <= wall:
            return f"the certificate ended {wall - self.not_after:.0f} s before it came; are the clocks right?"
        if self.not_before > wall + CLOCK_DIFFERENCE:
            wait = self.not_before - wall
            return f"the certificate does not count for another {wait:.0f} s; are the clocks right?"
        return None


@dataclass(frozen=True, slots=True)
class Request:
    """Effect: ask the authority for this identity, and answer with this ticket."""

    identity: Identity
    ticket: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Effect: the data plane may drop this identity's certificate."""

    identity: Identity


@dataclass(frozen=True, slots=True)
class Expired:
    """Effect, once for each certificate: it ended before a new one came; new handshakes fail."""

    identity: Identity


Effect: TypeAlias = Request | Forget | Expired


class CertificateSchedule:
    """Which identities are wanted, what they have, what is due."""

    def __init__(self, random: Callable[[], float], *, at_once: int | None = None) -> None:
        """`random` gives numbers from 0 up to 1; `at_once` is how many requests may be under way."""
        self._random = random
        self._at_once = MAX_IN_FLIGHT if at_once is None else at_once
        self._entries: dict[Identity, _Entry] = {}
        # Tickets of requests under way. Forgotten identities keep theirs until the answer is in, so that
        # wanting and forgetting in turn cannot start more than MAX_IN_FLIGHT.
        self._in_flight: dict[int, Identity] = {}
        self._next_ticket = 1

    def want(self, identity: Identity, priority: Priority, now: Now) -> None:
        """Somebody needs a certificate. One that is in use, asked for or backing off is not asked for again."""
        entry = self._entries.get(identity)
        if entry is None:
            self._entries[identity] = _Entry(
                due=now.monotonic, priority=priority, asked=now.monotonic
            )
        elif entry.validity is None or entry.validity.not_after <= now.wall:
            entry.priority = max(entry.priority, priority)

    def has_certificate(self, identity: Identity) -> bool:
        """Whether one is installed, still valid or not."""
        entry = self._entries.get(identity)
        return entry is not None and entry.validity is not None

    def forget(self, identity: Identity) -> list[Effect]:
        """Nobody needs it any more; an answer that is still to come will be thrown away."""
        return [Forget(identity)] if self._entries.pop(identity, None) else []

    def objection(self, ticket: int, validity: Validity, now: Now) -> str | None:
        """Why an answer is not to be installed; None if it is: still wanted, and no worse than what is in use.

        Where nothing is in use, the worst is better: it may be our clock that is wrong, and the peers' that count.
        """
        identity = self._in_flight.get(ticket)
        entry = self._entries.get(identity) if identity is not None else None
        if entry is None or entry.ticket != ticket:
            return NOT_NEEDED
        if entry.validity is None or entry.validity.not_after <= now.wall:
            return None
        return validity.doubt(now.wall)

    def issued(self, ticket: int, validity: Validity, now: Now) -> None:
        """A request was answered and what came is in use."""
        entry = self._answered(ticket)
        if entry is None:
            return
        entry.validity, entry.told_expired = validity, False
        entry.installed_at = now.wall
        if validity.doubt(now.wall) is not None:
            # Already over, or not yet begun: our clock or theirs is wrong, and another replica's may be right. Asking at
            # once would never end.
            self._back_off(entry, now)
            return
        entry.failures, entry.failing_since = 0, None
        entry.priority = Priority.BACKGROUND
        entry.renew_at = self._renewal(validity, now)
        entry.due = None
        # The authority answers again: whoever failed before need not wait out a pause of minutes (F25).
        for other in self._entries.values():
            if other.failures and other.ticket is None:
                other.due = min(
                    other.due or now.monotonic, now.monotonic + self._random() * RECOVERY_SPREAD
                )

    def failed(self, ticket: int, now: Now) -> float | None:
        """A request failed; gives the pause until the next one, or None if nobody waits for it."""
        entry = self._answered(ticket)
        return None if entry is None else self._back_off(entry, now)

    def abandon(self, now: Now) -> None:
        """Nobody works on the requests under way any more: all of them have failed."""
        for ticket in list(self._in_flight):
            self.failed(ticket, now)

    def next(self, now: Now) -> list[Effect]:
        """What should happen now. Call again at `wake_at`, and after every wish and answer."""
        effects: list[Effect] = []
        due: list[tuple[int, float, Identity, _Entry]] = []
        for identity, entry in self._entries.items():
            if entry.is_expired(now) and not entry.told_expired:
                entry.told_expired = True
                effects.append(Expired(identity))
            if entry.ticket is None and entry.is_due(now):
                due.append((-entry.priority, entry.asked, identity, entry))
        due.sort(key=lambda candidate: candidate[:2])
        for _, _, identity, entry in due[: max(0, self._at_once - len(self._in_flight))]:
            entry.ticket = self._next_ticket
            self._in_flight[entry.ticket] = identity
            self._next_ticket += 1
            effects.append(Request(identity, entry.ticket))
        return effects

    def wake_at(self, now: Now) -> float | None:
        """The monotonic time at which to call `next`, or None if only a wish or an answer can change anything."""
        times = [entry.wake_at(now) for entry in self._entries.values() if entry.ticket is None]
        if not times:
            return None
        if len(self._in_flight) >= self._at_once:
            # What is due cannot start before an answer comes, and an answer calls `next` by itself.
            return now.monotonic + LONGEST_NAP
        # Never long: this is how a jump of the wall clock is noticed.
        return max(now.monotonic, min(*times, now.monotonic + LONGEST_NAP))

    def _answered(self, ticket: int) -> _Entry | None:
        identity = self._in_flight.pop(ticket, None)
        entry = self._entries.get(identity) if identity is not None else None
        if entry is None or entry.ticket != ticket:
            return None
        entry.ticket = None
        return entry

    def _back_off(self, entry: _Entry, now: Now) -> float:
        """1 s, doubled up to 150 s, each ± 20 %; never past the end of the certificate in use."""
        if entry.failing_since is None:
            entry.failing_since = now.monotonic
        if now.monotonic - entry.failing_since >= ALWAYS_LONGEST_AFTER:
            pause = LONGEST_PAUSE
        else:
            # 2**10 is past the cap already; without the bound the number itself would grow for ever.
            pause = min(FIRST_PAUSE * 2 ** min(entry.failures, 10), LONGEST_PAUSE)
        entry.failures += 1
        pause *= 1 + PAUSE_JITTER * (2 * self._random() - 1)
        if entry.validity is not None and entry.validity.not_after > now.wall:
            pause = min(pause, max(entry.validity.not_after - now.wall, SHORTEST_STEP))
        entry.asked = now.monotonic
        entry.due = now.monotonic + pause
        entry.renew_at = None
        return pause

    def _renewal(self, validity: Validity, now: Now) -> float:
        """The wall time of the renewal: half of the certificate's life, ± 10 %, and never at once."""
        half = (validity.not_after - validity.not_before) / 2
        at = validity.not_before + half * (1 + RENEWAL_JITTER * (2 * self._random() - 1))
        if at <= now.wall:
            # It came old (or our clock is ahead): half of what is left.
            at = now.wall + (validity.not_after - now.wall) / 2
        return max(at, now.wall + SHORTEST_STEP)


@dataclass(slots=True, kw_only=True)
class _Entry:
    """One identity. It waits for `due` (monotonic), or for `renew_at` (wall), or for its ticket's answer."""

    due: float | None
    priority: Priority
    asked: float
    """When it began to wait; among equals the one that waits longest goes first."""
    ticket: int | None = None
    validity: Validity | None = None
    installed_at: float = 0.0
    """Wall time; a clock that is behind this has been set back."""
    renew_at: float | None = None
    failures: int = 0
    failing_since: float | None = None
    told_expired: bool = False

    def is_expired(self, now: Now) -> bool:
        return self.validity is not None and self.validity.not_after <= now.wall

    def is_due(self, now: Now) -> bool:
        if self.due is not None:
            return self.due <= now.monotonic
        return self.renew_at is not None and (
            self.renew_at <= now.wall or self._is_before_its_time(now)
        )

    def wake_at(self, now: Now) -> float:
        if self.due is not None:
            return self.due
        if self.renew_at is None or self._is_before_its_time(now):
            return now.monotonic
        return now.monotonic + max(0.0, self.renew_at - now.wall)

    def _is_before_its_time(self, now: Now) -> bool:
        """The clock was set back to before the certificate begins: peers refuse it until it is replaced."""
        return self.validity is not None and now.wall < min(
            self.validity.not_before, self.installed_at
        )


# In upstream's words (spec/control.md §7.4).
NOT_NEEDED = "the identity is no longer needed"
# What clocks of one cluster may differ by without anybody being wrong.
CLOCK_DIFFERENCE = 60.0
# spec/control.md §7.4: requests at once, and the pauses after failures.
MAX_IN_FLIGHT = 8
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 150.0
PAUSE_JITTER = 0.2
ALWAYS_LONGEST_AFTER = 15 * 60.0
# reliability §2 U13: certificates that were fetched together must not be renewed together.
RENEWAL_JITTER = 0.1
# No certificate is renewed more often than this, whatever its times say (F28: no busy loop).
SHORTEST_STEP = 1.0
# reliability F25: recovered within a second of the authority's return.
RECOVERY_SPREAD = 0.5
# reliability F28: a healed clock is noticed within 5 s.
LONGEST_NAP = 5.0
