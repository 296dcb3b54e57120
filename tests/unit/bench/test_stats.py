"""What the side-by-side benchmark computes from its samples."""

from __future__ import annotations

import pytest

from bench.macro import stats
from bench.macro.stats import Sample


def sample(number: int, subject: str, **figures: float) -> Sample:
    return Sample(round=number, row="row", subject=subject, figures=figures)


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    # The ratio of medians would be 20/40: rounds differ more than subjects do.
    samples = [
        *(sample(n, "ours", cost=cost) for n, cost in enumerate([10.0, 20.0, 90.0])),
        *(sample(n, "other", cost=cost) for n, cost in enumerate([40.0, 25.0, 100.0])),
    ]
    found = stats.ratio(samples, "row", "cost", ("ours", "other"))
    assert found is not None
    assert found.median == pytest.approx(0.8)
    assert (found.low, found.high) == pytest.approx((0.25, 0.9))


def test_a_round_that_one_subject_failed_counts_for_no_ratio() -> None:
    samples = [
        sample(0, "ours", cost=1.0),
        sample(1, "ours", cost=3.0),
        Sample(round=0, row="row", subject="other", error="did not start"),
        sample(1, "other", cost=6.0),
    ]
    found = stats.ratio(samples, "row", "cost", ("ours", "other"))
    assert found is not None
    assert (found.median, found.count) == (0.5, 1)
    assert stats.ratio(samples[:3], "row", "cost", ("ours", "other")) is None


def test_an_interval_holds_its_median_and_is_the_same_for_the_same_samples() -> None:
    observed = [0.5, 0.52, 0.49, 0.7, 0.51, 0.5, 0.48]
    found = stats.bootstrap(observed)
    assert found.low <= found.median <= found.high
    assert found.low >= 0.48
    assert found.high < 0.7
    assert found == stats.bootstrap(observed)


def test_what_a_proxy_adds_is_counted_from_the_same_rounds_control() -> None:
    name = "128 B x 1, p50 µs"
    samples = [
        sample(0, "direct", **{name: 80.0}),
        sample(0, "ours", **{name: 100.0}),
        sample(1, "ours", **{name: 101.0}),
        sample(1, "direct", **{name: 90.0}),
    ]
    added = stats.values(stats.with_added(samples), "row", "ours", "128 B x 1, added p50 µs")
    assert added == {0: 20.0, 1: 11.0}


@pytest.mark.parametrize(("last", "drifted"), [(109.0, False), (111.0, True), (85.0, True)])
def test_a_control_that_moves_by_a_tenth_marks_the_run(last: float, drifted: bool) -> None:
    samples = [sample(0, "direct", rate=100.0), sample(1, "direct", rate=50.0)]
    samples.append(sample(2, "direct", rate=last))
    assert bool(stats.drifts(samples)) is drifted


def test_a_rate_is_better_when_there_is_more_of_it() -> None:
    assert stats.better_is_more("1 stream up, Gbit/s")
    assert stats.better_is_more("32 at once, per second")
    assert not stats.better_is_more("1 stream up, CPU s/GiB")
