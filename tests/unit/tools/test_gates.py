"""The gates judge what they should, and read traces as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.gates.compare import Change, judge
from tools.gates.measure import NODES, PURE, instructions_in, syscalls_in

TRACE = """\
41 epoll_wait(3, [], 1024, 10) = 0
40 statx(AT_FDCWD, "/gates/begin", AT_STATX_SYNC_AS_STAT, STATX_ALL, 0x7ffd) = -1 ENOENT
41 recvfrom(7, "x", 1, 0, NULL, NULL) = 1
42 epoll_wait(4,  <unfinished ...>
40 sendto(9, "x", 1, 0, NULL, 0) = 1
41 sendto(7, "x", 1, 0, NULL, 0) = 1
42 <... epoll_wait resumed> [], 1024, 10) = 0
43 write(1, "x", 1) = 1
42 +++ exited with 0 +++
40 statx(AT_FDCWD, "/gates/end", AT_STATX_SYNC_AS_STAT, STATX_ALL, 0x7ffd) = -1 ENOENT
41 close(7) = 0
"""


@pytest.mark.parametrize(
    ("counted", "change", "fails"),
    [
        (100.0, Change.SAME, False),
        (103.0, Change.SAME, False),
        (103.1, Change.RISEN, True),
        (97.0, Change.SAME, False),
        (96.9, Change.FALLEN, False),
    ],
)
def test_a_rise_of_more_than_three_percent_fails_and_a_fall_is_said(
    counted: float, change: Change, fails: bool
) -> None:
    [verdict] = judge({"x": 100.0}, {"x": counted})
    assert (verdict.change, verdict.fails) == (change, fails)


@pytest.mark.parametrize(
    ("counted", "change"),
    [(0.0, Change.SAME), (0.028, Change.SAME), (0.03, Change.RISEN), (1.008, Change.RISEN)],
)
def test_next_to_nothing_may_differ_by_a_fiftieth_of_one(counted: float, change: Change) -> None:
    [verdict] = judge({"x": 0.008}, {"x": counted})
    assert verdict.change is change


def test_what_rose_is_said_with_both_numbers() -> None:
    [verdict] = judge({"syscalls per connection": 71}, {"syscalls per connection": 80.5})
    assert all(part in str(verdict) for part in ("syscalls per connection", "71", "80.50", "rose"))


def test_a_count_without_baseline_and_a_baseline_without_count_fail() -> None:
    gone, new = judge({"a": 1.0}, {"b": 1.0})
    assert (gone.change, gone.fails) == (Change.GONE, True)
    assert (new.change, new.fails) == (Change.NEW, True)


def test_calls_of_the_workers_between_the_markers_are_counted_once() -> None:
    assert syscalls_in(TRACE.splitlines(), [41, 42]) == 3


@pytest.mark.parametrize("marker", ["begin", "end"])
def test_a_trace_without_a_marker_is_no_count(marker: str) -> None:
    lines = [line for line in TRACE.splitlines() if marker not in line]
    with pytest.raises(ValueError, match=f"no {marker} marker"):
        syscalls_in(lines, [41])


def test_an_empty_collection_is_no_count() -> None:
    assert instructions_in("==1== Collected : 4711\n") == 4711
    with pytest.raises(ValueError, match="collected nothing"):
        instructions_in("==1== Collected : 0\n")


def test_the_baseline_knows_every_count_that_is_made() -> None:
    baseline = json.loads((Path(__file__).parents[2] / "gates" / "baseline.json").read_text())
    expected = {f"instructions per {work.counted_in}" for work in PURE}
    for kind in ("allocations", "syscalls"):
        expected |= {f"{kind} per {work.counted_in}" for work in NODES}
    assert set(baseline) == expected
