"""M1, M2: what a connection that says nothing costs, once it has said something."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.macro.load import line

if TYPE_CHECKING:
    from bench.macro.block import Block
    from bench.macro.usage import Memory

CONNECTIONS = 1000
MIB = 2**20
# Allocators give memory back some seconds after it was freed: wait until nothing changes any more, but not for ever.
SETTLE = 12.0
QUIET = 1.5
LOOK = 0.25


def fresh(block: Block) -> None:
    """After one byte there and back."""
    _idle(block, size=1)


def used(block: Block) -> None:
    """After a MiB there and back."""
    _idle(block, size=MIB)


def _idle(block: Block, *, size: int) -> None:
    if block.direct:
        return
    before = settled(block)
    count = block.many(CONNECTIONS)
    with block.load.client(block.words("idle", count=count, parallel=16, size=size)) as client:
        result = line(client)
        after = settled(block)
    block.keep("idle", result, before=_plain(before), after=_plain(after))
    block.note("KiB each (anonymous)", (after.anonymous - before.anonymous) / count / 1024)
    block.note("KiB each (proportional)", (after.proportional - before.proportional) / count / 1024)
    block.note("kernel slab beside it, KiB each", (after.slab - before.slab) / count / 1024)
    block.note("before, MiB", before.resident / MIB)


def settled(block: Block) -> Memory:
    """The memory of both proxies, when it has stopped changing."""
    deadline = time.monotonic() + SETTLE * block.scale
    last, since = block.pair.memory(), time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - since < QUIET:
        time.sleep(LOOK)
        now = block.pair.memory()
        if abs(now.anonymous - last.anonymous) > last.anonymous // 200:
            last, since = now, time.monotonic()
    return block.pair.memory()


def _plain(memory: Memory) -> dict[str, int]:
    return {
        name: getattr(memory, name) for name in ("anonymous", "resident", "proportional", "slab")
    }
