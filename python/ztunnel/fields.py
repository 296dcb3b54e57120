"""Fields of a log line, handed to `logging` as its `extra`.

Apart from `telemetry.log` so that the many who write lines know nothing of how they are printed.
"""

from __future__ import annotations

FIELDS = "fields"
"""The attribute of a `LogRecord` that holds them."""


def fields(**values: object) -> dict[str, dict[str, object]]:
    """`log.info("certificate installed", extra=fields(identity=web))`; absent (None) ones are left out."""
    return {FIELDS: {name: value for name, value in values.items() if value is not None}}


class Bare(str):
    """A text that plain lines show without quotes, as upstream shows addresses; quoted after all if it is not one word."""

    __slots__ = ()


def span(name: str, **values: object) -> dict[str, tuple[tuple[str, dict[str, object]], ...]]:
    """`log.info("Stream established", extra=span("xds", id=1))`: what the line happened in."""
    return {SPANS: ((name, values),)}


SPANS = "spans"
"""The attribute of a `LogRecord` that holds them, outermost first."""

SEVERAL_LINES = "several_lines"
"""The attribute of a `LogRecord` that says: the message's line feeds are ours, let plain lines keep them."""
