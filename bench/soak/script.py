"""What happens on one connection: it follows from a seed and a number, so both ends know it. No sockets here.

Counterpart: `ends.py`, which does it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum
from functools import cache

KIB, MIB = 2**10, 2**20
LARGEST = 8 * MIB
LONGEST_STALL = 2.0
# Longer than an idle tunnel is kept, so that a connection that says nothing must keep its own.
LONGEST_SILENCE = 6.0
HEADER = 8

# Shares of the connections, in hundredths.
TORN = 15
STALLING = 10
SILENT = 2
BULKY = 12
TURNS = 12


class Order(Enum):
    """Who speaks when, and who ends how."""

    BOTH = "both at once"
    CLIENT_FIRST = "the server speaks after the client's FIN"
    SERVER_FIRST = "the client speaks after the server's FIN"
    TURNS = "in turns"
    CLIENT_RESETS = "the client resets"
    SERVER_RESETS = "the server resets"


STEADY = (Order.BOTH, Order.CLIENT_FIRST, Order.SERVER_FIRST, Order.TURNS)
TEARING = (Order.CLIENT_RESETS, Order.SERVER_RESETS)


@dataclass(frozen=True, kw_only=True)
class Rest:
    """Nothing for so many seconds, once so many bytes have passed."""

    after: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Flow:
    """One direction: the bytes from `start` on in the blob that all share, and where it rests."""

    start: int
    size: int
    silences: tuple[Rest, ...] = ()
    """Of who sends."""
    stalls: tuple[Rest, ...] = ()
    """Of who reads."""

    @classmethod
    def drawn(cls, dice: random.Random) -> Flow:
        """As many of a few bytes as of many, now and then none, and some that fill every buffer."""
        draw = dice.random() * 100
        size = int((MIB + 1) ** dice.random()) - 1
        if draw < BULKY:
            size = dice.randrange(MIB, LARGEST + 1)
        start = dice.randrange(LARGEST)
        silences, stalls = [], []
        if dice.random() * 100 < SILENT:
            silences.append(_rest(dice, size, LONGEST_SILENCE))
        if dice.random() * 100 < STALLING:
            stalls += [_rest(dice, size, LONGEST_STALL) for _ in range(dice.randint(1, 2))]
        stalls.sort(key=lambda rest: rest.after)
        return cls(start=start, size=size, silences=tuple(silences), stalls=tuple(stalls))

    def part(self, begin: int, end: int) -> bytes:
        """These bytes of it."""
        return blob()[self.start + begin : self.start + end]


@dataclass(frozen=True, kw_only=True)
class Script:
    """One connection."""

    number: int
    order: Order
    up: Flow
    down: Flow
    turns: int = 1
    cut: int = 0
    """Of a connection that is reset: what its resetter sends before."""
    hesitates: float = 0.0
    """And how long it waits then."""

    @classmethod
    def of(cls, seed: int, number: int) -> Script:
        """The same for both ends."""
        dice = random.Random(f"{seed}/{number}")
        up, down = Flow.drawn(dice), Flow.drawn(dice)
        if dice.random() * 100 < TORN:
            order = dice.choice(TEARING)
            longest = up.size if order is Order.CLIENT_RESETS else down.size
            cut = dice.choice((dice.randint(0, longest), longest))
            hesitates = dice.choice((0.0, dice.random() * 0.05))
            return cls(number=number, order=order, up=up, down=down, cut=cut, hesitates=hesitates)
        order, turns = dice.choice(STEADY[:3]), 1
        if dice.random() * 100 < TURNS:
            order, turns = Order.TURNS, dice.randint(2, 40)
        return cls(number=number, order=order, up=up, down=down, turns=turns)

    @property
    def torn(self) -> bool:
        """Whether it ends with a reset."""
        return self.order in TEARING


def _rest(dice: random.Random, size: int, longest: float) -> Rest:
    return Rest(after=dice.randint(0, size), seconds=0.05 + dice.random() * (longest - 0.05))


@cache
def blob() -> bytes:
    """Bytes of which no two places are alike; a flow is a window on them."""
    return random.Random(0).randbytes(2 * LARGEST)
