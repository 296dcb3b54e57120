"""Operational log lines in the same two formats as the Rust side's (spec/control.md §13).

Plain: time, level, target, message and fields with tabs between. JSON: one object a line. They go to
standard error, so that standard output holds nothing but the access log.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Literal, TextIO

from ztunnel.fields import FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping

LogFormat = Literal["plain", "json"]

# Python knows these levels under other names than the ones that the Rust side prints.
LEVELS: Mapping[str, int] = {
    "trace": 5,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "off": logging.CRITICAL + 10,
}


def set_up(
    *, style: LogFormat = "plain", level: str = "info", stream: TextIO | None = None
) -> None:
    """Sends the package's log lines to `stream` (standard error) from now on.

    `level` is one level, or a filter as the Rust side takes it: `info,proxy=debug,access=off`.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else PlainFormatter())
    logger = logging.getLogger("ztunnel")
    logger.handlers[:] = [handler]
    for target, number in levels_of(level).items():
        name = target.removeprefix("ztunnel").removeprefix("::").replace("::", ".")
        logging.getLogger(f"ztunnel.{name}" if name else "ztunnel").setLevel(number)
    logger.propagate = False
    # A log that cannot be written (closed pipe) must not print a traceback for every line.
    logging.raiseExceptions = False


def levels_of(directives: str) -> dict[str, int]:
    """Level by target, the default's being the empty one; `ValueError` for what is no filter (control §10.1)."""
    levels = {"": LEVELS["info"]}
    for directive in directives.split(","):
        target, separator, level = _split(directive.strip())
        number = LEVELS.get(level.lower())
        if number is None or bool(separator) != bool(target):
            wanted = "not a log level nor `target=level`"
            raise ValueError(f"{wanted}: `{directive.strip()[:80]}`")
        levels[target] = number
    return levels


def _split(directive: str) -> tuple[str, str, str]:
    """`target=level`, or `target:level` as istioctl's help spells it; a `::` belongs to the target."""
    if "=" in directive or ":" not in directive.replace("::", ""):
        return directive.rpartition("=")
    return directive.rpartition(":")


class PlainFormatter(logging.Formatter):
    """`time⇥level⇥target⇥message⇥k=v k=v`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the values hold."""
        target = _target(record).removeprefix("ztunnel::")
        message = _one_line(record.getMessage())
        pairs = " ".join(f"{name}={_plain(value)}" for name, value in _fields(record).items())
        return "\t".join(
            [_time(record), _level(record), target, message, *([pairs] if pairs else [])]
        )


class JsonFormatter(logging.Formatter):
    """`{"level": …, "time": …, "scope": …, "message": …, fields…}`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the values hold."""
        head = {
            "level": _level(record),
            "time": _time(record),
            "scope": _target(record),
            "message": record.getMessage(),
        }
        return json.dumps(
            head | _fields(record), default=str, ensure_ascii=False, separators=(",", ":")
        )


def _fields(record: logging.LogRecord) -> dict[str, object]:
    found: dict[str, object] = dict(getattr(record, FIELDS, {}))
    if record.exc_info and record.exc_info[1] is not None:
        found["trace"] = _trace(record.exc_info[1])
    return found


def _trace(error: BaseException) -> str:
    """Where an unexpected error came from, innermost last: enough to find the line, short enough to read."""
    steps = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        steps.append(f"{code.co_qualname}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(error).__name__} at {' > '.join(steps[-8:])}"


def _time(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.created % 1 * 1_000_000):06d}Z"


def _level(record: logging.LogRecord) -> str:
    return {"WARNING": "warn", "CRITICAL": "error"}.get(record.levelname, record.levelname.lower())


def _target(record: logging.LogRecord) -> str:
    return record.name.replace(".", "::")


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    # Quoted and escaped as JSON does: a value cannot break out of its line.
    return json.dumps(str(value), ensure_ascii=False)


def _one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
