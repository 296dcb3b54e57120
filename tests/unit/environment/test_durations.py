"""Durations of the environment."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztunnel.environment.durations import duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("1.5", 1.5),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1d", 86400),
        ("2w", 14 * 86400),
        ("1mon", 30 * 86400),
        ("1y", 365 * 86400),
        ("250ms", 0.25),
        ("10us", 1e-5),
        ("10µs", 1e-5),
        ("7ns", 7e-9),
        ("1m+30s", 90),
        ("1m + 30", 90),
        ("2*30s", 60),
        ("1m+2*30s", 120),
        ("3 minutes", 180),
        ("1 Hour", 3600),
        ("2SEC", 2),
        ("3m31", 211),
        ("3m 31", 211),
        ("1m * 10", 600),
        ("15 day", 15 * 86400),
        ("1y2mon3w", (365 + 60 + 21) * 86400),
        ("5msec", 0.005),
        ("2 weeks 1 day", 15 * 86400),
    ],
)
def test_numbers_with_units_can_be_joined(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "s",
        "-1s",
        "1x",
        "1s+",
        "+1s",
        "*",
        "1s**2",
        "1e3",
        "1_0s",
        "١s",
        "1" * 200,
        "nan",
        "1 2",
        "1s 2 3",
        "1.s",
        ".5s",
        "1s;",
        "1 m s",
        "1m-1s",
    ],
)
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"^$|^could not convert"):
        duration(text)


@given(st.text(alphabet="0123456789.+* smhdwµyonxu\u0661", max_size=140))
def test_any_text_is_a_finite_time_or_none(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert 0 <= duration(text) < math.inf
