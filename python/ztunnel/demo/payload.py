"""The file that goes through the tunnel: fast to write, and it carries a text that must not be seen on the wire.

Every block of 1 MiB is random, different from the others, and has the marker at its start, across its
middle and at its end.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ztunnel.demo.story import MIB

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = MIB
MARKERS_PER_BLOCK = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """A file that was written."""

    path: Path
    size: int
    sha256: str
    marker: bytes
    markers: int
    """How often the marker is in it."""


def write_payload(path: Path, size: int) -> Payload:
    """Writes `size` bytes, a multiple of a block."""
    marker = f"<secret {os.urandom(8).hex()} of the demo>".encode()
    block = bytearray(os.urandom(BLOCK))
    middle, end = BLOCK // 2 - len(marker) // 2, BLOCK - len(marker)
    for place in (0, middle, end):
        block[place : place + len(marker)] = marker
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(size // BLOCK):
            # A number of its own, so that no block could take another's place unnoticed.
            block[len(marker) : len(marker) + 8] = number.to_bytes(8, "big")
            file.write(block)
            digest.update(block)
    return Payload(
        path=path,
        size=size,
        sha256=digest.hexdigest(),
        marker=marker,
        markers=size // BLOCK * MARKERS_PER_BLOCK,
    )
