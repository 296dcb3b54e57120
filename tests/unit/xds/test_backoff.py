"""The waits between streams: spec/control.md §4.7, row by row, and where ours are longer."""

from __future__ import annotations

import pytest

from ztunnel.errors import EndpointError, EndpointUnreachable, StreamEnded, StreamLost
from ztunnel.xds.backoff import JITTER, LONGEST, Backoff, End, end_of


def steady() -> Backoff:
    return Backoff(lambda: 0.0)


@pytest.mark.parametrize(
    ("error", "established", "end"),
    [
        (EndpointUnreachable("refused"), False, "ConnectionError"),
        (StreamEnded("UNAUTHENTICATED", "authentication failure"), False, "ConnectionError"),
        (StreamLost("reset"), False, "ConnectionError"),
        (StreamEnded("UNKNOWN", ""), True, "Reconnect"),
        (StreamEnded("CANCELLED", ""), True, "Reconnect"),
        (StreamEnded("DEADLINE_EXCEEDED", ""), True, "Reconnect"),
        (StreamEnded("UNAVAILABLE", "transport is closing"), True, "Reconnect"),
        (StreamEnded("UNAVAILABLE", "x: received prior goaway: y"), True, "Reconnect"),
        (StreamLost("Connection lost"), True, "Reconnect"),
        (StreamEnded("UNAVAILABLE", "overloaded"), True, "Error"),
        (StreamEnded("ABORTED", ""), True, "Error"),
        (StreamEnded("RESOURCE_EXHAUSTED", "rate limit exceeded"), True, "Error"),
        (StreamEnded("INVALID_ARGUMENT", "missing node"), True, "Error"),
        (EndpointError("roots that are none"), False, "Error"),
        (EndpointError("no answer of delta ADS"), True, "Error"),
        (None, True, "Complete"),
    ],
)
def test_each_outcome_has_its_reason(error: Exception | None, established: bool, end: str) -> None:
    assert end_of(error, established=established).value == end


@pytest.mark.parametrize("end", [End.CONNECTION_ERROR, End.ERROR])
def test_failures_wait_twice_as_long_each_time_up_to_15_s(end: End) -> None:
    backoff = steady()
    waits = [backoff.pause(end, answered=False) for _ in range(12)]
    assert waits[:4] == [0.02, 0.04, 0.08, 0.16]
    assert waits[-2:] == [15.0, 15.0]


def test_a_stream_that_brought_something_does_not_shorten_the_wait_after_an_error() -> None:
    backoff = steady()
    assert [backoff.pause(End.ERROR, answered=True) for _ in range(3)] == [0.02, 0.04, 0.08]


@pytest.mark.parametrize("end", [End.RECONNECT, End.COMPLETE])
def test_ends_that_are_usual_wait_10_ms_and_forget_failures(end: End) -> None:
    backoff = steady()
    for _ in range(5):
        backoff.pause(End.CONNECTION_ERROR, answered=False)
    assert [backoff.pause(end, answered=True) for _ in range(3)] == [0.01, 0.01, 0.01]
    assert backoff.pause(End.CONNECTION_ERROR, answered=False) == 0.02


@pytest.mark.parametrize("end", [End.RECONNECT, End.COMPLETE])
def test_an_end_without_an_answer_before_it_is_no_loop(end: End) -> None:
    backoff = steady()
    waits = [backoff.pause(end, answered=False) for _ in range(12)]
    assert waits[:3] == [0.01, 0.02, 0.04]
    assert waits[-1] == LONGEST


def test_jitter_makes_waits_longer_and_never_shorter() -> None:
    for drawn in (0.0, 0.5, 0.999):
        backoff = Backoff(lambda drawn=drawn: drawn)  # type: ignore[misc]
        wait = backoff.pause(End.ERROR, answered=False)
        assert 0.02 <= wait <= 0.02 * (1 + JITTER)
        assert wait == 0.02 * (1 + JITTER * drawn)
