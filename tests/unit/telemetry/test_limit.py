"""Repeated lines: so many a second, then their number (spec/reliability.md T18)."""

from __future__ import annotations

import io
import json
import logging
import threading
import time
from typing import TYPE_CHECKING

import pytest

from ztunnel.fields import fields
from ztunnel.telemetry import limit as limit_module
from ztunnel.telemetry import log as telemetry
from ztunnel.telemetry.filter import Filter
from ztunnel.telemetry.limit import CLASSES, PER_PERIOD, Limited, Limiter

if TYPE_CHECKING:
    from collections.abc import Iterator

A, B = ("ztunnel.xds.client", logging.WARNING, "a"), ("ztunnel.xds.client", logging.WARNING, "b")


def admitted(limiter: Limiter, kind: tuple[str, int, str], count: int, now: float) -> int:
    return sum(limiter.admits(kind, now) for _ in range(count))


def test_a_class_has_its_own_second_and_speaks_again_after_it() -> None:
    limiter = Limiter()
    assert admitted(limiter, A, 1000, now=0.0) == PER_PERIOD
    assert admitted(limiter, B, 3, now=0.5) == 3
    assert limiter.report(0.9) == []
    assert limiter.report(1.0) == [(A, 1000 - PER_PERIOD)]
    assert limiter.report(1.0) == []
    assert not limiter.holds
    assert admitted(limiter, A, 1000, now=1.1) == PER_PERIOD


def test_one_line_a_second_is_never_held_back() -> None:
    limiter = Limiter()
    assert all(limiter.admits(A, float(second)) for second in range(1000))
    assert limiter.report(2000.0) == []


def test_what_was_held_back_is_told_before_its_class_speaks_again() -> None:
    limiter = Limiter()
    admitted(limiter, A, PER_PERIOD + 1, now=0.0)
    assert admitted(limiter, A, 5, now=10.0) == 0
    assert limiter.report(10.0) == [(A, 6)]


def test_classes_are_bounded_and_quiet_ones_go_first() -> None:
    limiter = Limiter()
    for number in range(10 * CLASSES):
        assert limiter.admits(("m", logging.ERROR, f"text {number}"), now=0.0)
    assert len(limiter._windows) == CLASSES
    admitted(limiter, ("m", logging.ERROR, "text 0"), PER_PERIOD + 5, now=0.5)
    assert limiter.admits(("m", logging.ERROR, "new"), now=5.0)
    assert len(limiter._windows) == 2
    # What has something to tell stays until it has told it.
    assert [count for _, count in limiter.report(5.0)] == [6]


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """The package's log, with seconds of a half: short to wait for, long for fifty lines."""
    monkeypatch.setattr(limit_module, "PERIOD", 0.5)
    logger, keep = logging.getLogger("ztunnel"), logging.raiseExceptions
    before = logger.handlers[:], logger.level, logger.propagate
    stream = io.StringIO()
    telemetry.set_up(style="json", level="debug", stream=stream)
    yield stream
    for handler in logger.handlers:
        for each in handler.filters:
            if isinstance(each, Limited):
                each.end()
    logger.handlers[:], level, logger.propagate = before
    logger.setLevel(level)
    logging.raiseExceptions = keep


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_flood_is_cut_and_its_size_is_told_though_no_line_comes_after_it(
    stream: io.StringIO,
) -> None:
    log = logging.getLogger("ztunnel.xds.client")
    for number in range(PER_PERIOD + 500):
        log.warning("stream ended", extra=fields(error=number))
    # A slow machine makes several periods of it, each with a report of its own.
    deadline = time.monotonic() + 10
    while sum(counts := passed_and_held(stream)) < PER_PERIOD + 500 and time.monotonic() < deadline:
        threading.Event().wait(0.005)
    passed, held = counts
    assert passed + held == PER_PERIOD + 500
    assert held > 0
    told = [line for line in lines(stream) if line["scope"] == "ztunnel::telemetry"]
    assert told[0]["level"] == "warn"
    assert told[0]["class"] == "xds::client: stream ended"


def passed_and_held(stream: io.StringIO) -> tuple[int, int]:
    """Lines of the client, and how many the reports say there would have been beside them."""
    seen = lines(stream)
    passed = sum(line["scope"] == "ztunnel::xds::client" for line in seen)
    told = [line for line in seen if line["scope"] == "ztunnel::telemetry"]
    return passed, sum(int(str(line["message"]).split()[1]) for line in told)


def test_information_is_not_limited_and_what_is_not_wanted_is_not_counted(
    stream: io.StringIO,
) -> None:
    log = logging.getLogger("ztunnel.identity.manager")
    for _ in range(PER_PERIOD * 2):
        log.info("certificate installed")
    assert len(lines(stream)) == PER_PERIOD * 2
    telemetry.use(Filter.parse("error"))
    for _ in range(PER_PERIOD * 2):
        log.warning("not wanted")
    handler = logging.getLogger("ztunnel").handlers[0]
    (limited,) = [each for each in handler.filters if isinstance(each, Limited)]
    assert not limited._limiter.holds
    assert len(lines(stream)) == PER_PERIOD * 2


def test_the_end_tells_what_is_left(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit_module, "PERIOD", 60.0)  # none is over before the end
    log = logging.getLogger("ztunnel.app")
    for _ in range(PER_PERIOD + 7):
        log.error("again")
    limit_module._end()
    told = [line for line in lines(stream) if line["scope"] == "ztunnel::telemetry"]
    assert sum(int(str(line["message"]).split()[1]) for line in told) == 7
    assert told[-1]["level"] == "error"


def test_a_line_never_fails_for_want_of_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    limited = Limited(handler)
    handler.addFilter(limited)
    record = logging.LogRecord("ztunnel.app", logging.WARNING, "", 0, "again", None, None)

    def no_thread(timer: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Timer, "start", no_thread)
        for _ in range(PER_PERIOD + 1):
            handler.handle(record)
    # There is one again, and what was held back is told.
    told = threading.Event()
    monkeypatch.setattr(limited, "_on_time", told.set)
    monkeypatch.setattr(limit_module, "PERIOD", 0.0)
    handler.handle(record)
    assert told.wait(5)
    limited.end()
    assert stream.getvalue().splitlines()[-1] == "suppressed 2 similar messages"
