"""The long fat link of `bench.distance`: everything later by the same time, nothing else changed."""

from __future__ import annotations

from bench.distance.relay import ROOM, Link


def _next(link: Link) -> float | None:
    return link.next  # a call, because it changes between two looks


def test_each_piece_arrives_after_the_delay_and_in_order() -> None:
    link = Link(0.04)
    link.put(1.0, b"one")
    link.put(1.01, b"two")
    link.put(1.01, b"")
    assert _next(link) == 1.04
    assert link.arrived(1.039) == []
    assert link.arrived(1.04) == [b"one"]
    assert link.arrived(2.0) == [b"two", b""], "the end comes last"
    assert _next(link) is None
    assert link.held == 0


def test_the_most_that_was_on_the_way_is_kept() -> None:
    link = Link(0.04)
    link.put(1.0, bytes(10))
    link.put(1.02, bytes(5))
    link.arrived(1.05)
    link.put(1.05, bytes(7))
    assert (link.held, link.most) == (12, 15)


def test_it_is_full_only_far_beyond_any_window() -> None:
    link = Link(0.04)
    for _ in range(ROOM // 2**20):
        assert not link.is_full
        link.put(0.0, bytes(2**20))
    assert link.is_full
    link.arrived(1.0)
    assert not link.is_full
