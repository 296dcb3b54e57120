"""Reading files that somebody else writes: never blocks, never takes more than it should."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path


Signature: TypeAlias = tuple[int, int, int, int] | None
"""What tells one state of a file from the next; None: it is not there, or cannot be looked at."""


def signature_of(path: Path) -> Signature:
    """Of what the path leads to, symlinks followed."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def read_small_file(path: Path, *, limit: int) -> bytes:
    """The file's bytes, at most one more than `limit` (so that the reader can say that it is too large).

    `OSError` for what cannot be read or is no regular file: a FIFO or a terminal would never end.
    """
    # Non-blocking, or opening a FIFO would wait for its writer before we could see what it is.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"not a regular file: {path}")
        return _read(descriptor, limit + 1)
    finally:
        os.close(descriptor)


def _read(descriptor: int, most: int) -> bytes:
    pieces = []
    while most > 0 and (piece := os.read(descriptor, min(most, 1 << 20))):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)
