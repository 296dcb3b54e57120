"""`/logging`: which lines the log wants (spec/control.md §10.1). The texts are upstream's.

Decides on a query; the filter itself is the data plane's, and Python's loggers follow it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl

from ztunnel.admin.messages import Answer, plain

if TYPE_CHECKING:
    from ztunnel.admin.messages import Request


class LogFilter(Protocol):
    """The log's filter."""

    def shown(self) -> str:
        """As it is now."""
        ...

    def change(self, *, reset: bool, directives: str | None) -> str:
        """Lays directives over it, or over the one of the start; `ValueError` for what is none."""
        ...


def answer(request: Request, log: LogFilter) -> Answer:
    """What `/logging` answers, having done it."""
    if request.method != "POST":
        return plain(405, f"Invalid HTTP method\n {USAGE}")
    # The last one counts, as upstream. `keep_blank_values`: `reset` has none.
    query = dict(parse_qsl(request.query, keep_blank_values=True))
    # `istioctl` without a level sends an empty one, and means to be told.
    level = _words(query.get("level", "")) or None
    reset = "reset" in query
    if level is None and not reset:
        return _current(log.shown())
    try:
        return _current(log.change(reset=reset, directives=level))
    except ValueError:
        return plain(400, f"Invalid level provided: {query['level']}\n{USAGE}")


def _words(directives: str) -> str:
    """`istioctl` maps its own words for two levels only where they stand alone; here they count in lists as well."""
    return _ISTIO_WORDS.sub(lambda found: ISTIO_WORDS[found[0].lower()], directives)


def _current(shown: str) -> Answer:
    return plain(200, f"current log level is {shown}\n")


USAGE = """
usage: POST /logging\t\t\t\t\t\t(To list current level)
usage: POST /logging?level=<level>\t\t\t\t(To change global levels)
usage: POST /logging?level={mod1}:{level1},{mod2}:{level2}\t(To change specific mods' logging level)

hint: loglevel:\terror|warn|info|debug|trace|off
hint: mod_name:\tthe module name, i.e. ztunnel::proxy
"""

ISTIO_WORDS = {"warning": "warn", "critical": "error"}
_ISTIO_WORDS = re.compile(r"(?:(?<=[=:,])|^)(?:warning|critical)(?=,|$)", re.IGNORECASE)
