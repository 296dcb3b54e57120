"""The package's own log lines, in the same two formats as the Rust side's (spec/control.md §13).

Plain: time, level, target, message and fields with tabs between. JSON: one object a line. Values may come from
peers: whatever they hold, a line stays one line, a field one field, and a terminal is told nothing but text.
Which lines are written is `filter.py`'s to say. Counterpart: `rust/proxy/src/telemetry/text.rs`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import TYPE_CHECKING, Literal, TextIO

from ztunnel.fields import FIELDS, SEVERAL_LINES, SPANS, Bare
from ztunnel.telemetry.filter import Filter
from ztunnel.telemetry.limit import Limited, limit
from ztunnel.telemetry.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LogFormat = Literal["plain", "json"]


def set_up(
    *, style: LogFormat = "plain", level: str = "info", stream: TextIO | None = None
) -> None:
    """Sends the package's log lines to `stream` (standard error) from now on.

    `level` is one level, or a filter as the Rust side takes it: `info,proxy=debug,access=off`; `ValueError` for
    what is none.
    """
    handler = Output(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else PlainFormatter())
    logger = logging.getLogger("ztunnel")
    wanted = Filter.startup(level)
    logger.handlers[:] = [handler]
    logger.propagate = False
    limit(handler)
    use(wanted)
    # A log that cannot be written (closed pipe) must not print a traceback for every line.
    logging.raiseExceptions = False


def use(wanted: Filter) -> None:
    """Exchanges the filter of the running log. The data plane has its own, which is told the same."""
    logger = logging.getLogger("ztunnel")
    for handler in logger.handlers:
        limited = [each for each in handler.filters if isinstance(each, Limited)]
        if limited:  # else it is not ours: whoever listens beside us hears what he likes
            # What is not wanted is not counted either.
            handler.filters[:] = [Wanted(wanted), *limited]
    # What no target asks for is turned away before a record is made.
    logger.setLevel(wanted.lowest)


def levels_of(directives: str) -> dict[str, int]:
    """Level by target, the default's being the empty one; `ValueError` for what is no filter (control §10.1)."""
    wanted = Filter.parse(directives)
    return {"": wanted.default, **dict(wanted.targets)}


class Wanted(logging.Filter):
    """A `Filter` where `logging` looks for one."""

    def __init__(self, wanted: Filter) -> None:
        super().__init__()
        self.wanted = wanted

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        return self.wanted.allows(record.levelno, _target(record))


class PlainFormatter(logging.Formatter):
    """`time⇥level⇥target:span{k=v}⇥message⇥k=v k=v`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the values hold; several if the record says that they are ours."""
        target = _target(record).removeprefix("ztunnel::")
        for name, values in _spans(record):
            target += f":{name}{{{_pairs(values)}}}"
        lines = record.getMessage().split("\n")
        # A line feed that nobody vouches for could start a line of somebody's own.
        separator = "\n" if getattr(record, SEVERAL_LINES, False) else "\\n"
        message = separator.join(map(_printable, lines))
        head = [_time(record), _level(record), target, message]
        return "\t".join([*head, _pairs(_fields(record))])


class JsonFormatter(logging.Formatter):
    """`{"level": …, "time": …, "scope": …, "message": …, fields…, spans…}`.

    Upstream's keys and no others: `istioctl bug-report` would want the message as `msg` (spec/istio.md A2.6), everybody
    else's parser knows these.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the values hold."""
        head: dict[str, object] = {
            "level": _level(record),
            "time": _time(record),
            "scope": _target(record),
            "message": record.getMessage(),
        }
        values = {name: _cut(value) for name, value in _fields(record).items()}
        line = json.dumps(
            head | values | dict(_spans(record)),
            default=str,
            ensure_ascii=False,
            separators=(",", ":"),
        )
        return HOSTILE.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def _spans(record: logging.LogRecord) -> Iterable[tuple[str, Mapping[str, object]]]:
    """What the line happened in, outermost first."""
    spans: Iterable[tuple[str, Mapping[str, object]]] = getattr(record, SPANS, ())
    return spans


def _pairs(values: Mapping[str, object]) -> str:
    return " ".join(f"{name}={_plain(value)}" for name, value in values.items())


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
    text = str(_cut(value))
    if isinstance(value, Bare) and PLAIN_WORD.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_printable(escaped)}"'


def _cut(value: object) -> object:
    """A value's beginning, if it is too long for a log."""
    if isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    return text if len(text) <= LONGEST else text[:LONGEST]


def _printable(text: str) -> str:
    """As Rust's `Debug` shows what is no text."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ESCAPES.get(c, f"\\u{{{ord(c):x}}}") for c in text)


ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
PLAIN_WORD = re.compile(r"[!#-<>-\[\]-~]+")
"""ASCII that can be seen, but for `"`, `=` and a backslash."""
HOSTILE = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What JSON allows in a string and a terminal or a reader of lines could trip over."""
LONGEST = 1024
"""Honest values are names, addresses and sentences."""
