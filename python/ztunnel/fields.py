"""Fields of a log line, handed to `logging` as its `extra`.

Apart from `telemetry.log` so that the many who write lines know nothing of how they are printed.
"""

from __future__ import annotations

FIELDS = "fields"
"""The attribute of a `LogRecord` that holds them."""


def fields(**values: object) -> dict[str, dict[str, object]]:
    """`log.info("certificate installed", extra=fields(identity=web))`; absent (None) ones are left out."""
    return {FIELDS: {name: value for name, value in values.items() if value is not None}}
