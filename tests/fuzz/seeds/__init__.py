"""What the seed corpus is made of, one module for each target."""

from __future__ import annotations

from collections.abc import Iterator

Seeds = Iterator[tuple[str, bytes]]
