"""`/logging`, in upstream's words."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from ztunnel.admin.levels import USAGE, answer
from ztunnel.admin.messages import Request
from ztunnel.telemetry.filter import Filter


class Log:
    """A filter as the data plane's."""

    def __init__(self) -> None:
        self.start = self.now = Filter.startup("info")

    def shown(self) -> str:
        return str(self.now)

    def change(self, *, reset: bool, directives: str | None) -> str:
        base = self.start if reset else self.now
        self.now = base if directives is None else base.with_directives(directives)
        return str(self.now)


def post(query: str, log: Log | None = None) -> tuple[int, str]:
    target = f"/logging?{query}" if query else "/logging"
    made = answer(Request(method="POST", target=target), log or Log())
    assert made.kind == "text/plain"
    return made.status, made.text.decode()


STARTED = "current log level is hickory_server::server=off,info\n"


# spec/control.md §17.7 and istio.md A2.5.
@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", "hickory_server::server=off,info"),
        ("level=", "hickory_server::server=off,info"),
        ("level=access=debug", "hickory_server::server=off,access=debug,info"),
        ("level=access=debug,info&reset", "hickory_server::server=off,access=debug,info"),
        ("level=debug", "hickory_server::server=off,debug"),
        ("level=access%3Ddebug%2Cwarn", "hickory_server::server=off,access=debug,warn"),
        ("level=access:debug", "hickory_server::server=off,access=debug,info"),
        ("level=ztunnel::proxy:trace", "hickory_server::server=off,ztunnel::proxy=trace,info"),
        ("level=warning", "hickory_server::server=off,warn"),
        ("level=access:critical,warning", "hickory_server::server=off,access=error,warn"),
        ("level=Warning,dns=CRITICAL", "hickory_server::server=off,dns=error,warn"),
        ("level=critical&level=off", "hickory_server::server=off,off"),
        ("reset", "hickory_server::server=off,info"),
        ("reset=", "hickory_server::server=off,info"),
        ("reset=false", "hickory_server::server=off,info"),
    ],
)
def test_what_is_asked_for_is_shown(query: str, shown: str) -> None:
    assert post(query) == (200, f"current log level is {shown}\n")


def test_a_reset_goes_back_to_the_start_first() -> None:
    log = Log()
    post("level=debug,access=off", log)
    assert post("", log)[1].endswith("access=off,debug\n")
    assert post("level=info&reset", log) == (200, STARTED)


@pytest.mark.parametrize(
    "level", ["bogus", "access", "=info", "access=bogus", "info,", "a=b=c", "warnings", "\n"]
)
def test_what_is_no_level_changes_nothing_and_is_named(level: str) -> None:
    log = Log()
    expected = f"Invalid level provided: {level}\n{USAGE}"
    assert post(f"level={quote(level)}", log) == (400, expected)
    assert post("", log) == (200, STARTED)


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "DELETE"])
def test_another_method_is_told_how(method: str) -> None:
    made = answer(Request(method=method, target="/logging?level=debug"), Log())
    assert made.status == 405
    assert made.text.decode().startswith("Invalid HTTP method\n \nusage: POST /logging\t")
