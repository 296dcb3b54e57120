"""Log lines, plain and JSON (spec/control.md §13)."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING

import pytest

from ztunnel.fields import fields
from ztunnel.telemetry import log as telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ztunnel.telemetry.log import LogFormat


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    logger, keep = logging.getLogger("ztunnel"), logging.raiseExceptions
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logger.propagate = propagate
    logging.raiseExceptions = keep


def written(
    style: LogFormat, level: int, message: str, *arguments: object, **values: object
) -> str:
    stream = io.StringIO()
    telemetry.set_up(style=style, level="debug", stream=stream)
    logging.getLogger("ztunnel.identity.manager").log(
        level, message, *arguments, extra=fields(**values)
    )
    return stream.getvalue()


def test_a_plain_line_has_time_level_target_message_and_fields_between_tabs() -> None:
    line = written(
        "plain",
        logging.WARNING,
        "pause %d",
        3,
        identity="spiffe://a",
        n=3,
        f=0.5,
        yes=True,
        none=None,
    )
    when, level, target, message, pairs = line.rstrip("\n").split("\t")
    assert when.endswith("Z")
    assert len(when) == len("2024-04-11T15:38:42.182974Z")
    assert (level, target, message) == ("warn", "identity::manager", "pause 3")
    assert pairs == 'identity="spiffe://a" n=3 f=0.5 yes=true'


def test_without_fields_there_is_no_last_tab() -> None:
    assert written("plain", logging.INFO, "ready").count("\t") == 3


@pytest.mark.parametrize("style", ["plain", "json"])
def test_no_value_and_no_message_breaks_out_of_its_line(style: LogFormat) -> None:
    line = written(style, logging.INFO, "a\nb\tc", value='x\ny\t"z"')
    assert line.count("\n") == 1
    assert line.count("\t") == (4 if style == "plain" else 0)


def test_a_json_line_is_one_object_in_the_order_of_the_spec() -> None:
    entries = json.loads(
        written("json", logging.ERROR, "bad", identity="x", n=1), object_pairs_hook=list
    )
    assert [name for name, _ in entries] == ["level", "time", "scope", "message", "identity", "n"]
    assert dict(entries)["scope"] == "ztunnel::identity::manager"


def test_an_unexpected_error_says_where_it_came_from() -> None:
    stream = io.StringIO()
    telemetry.set_up(stream=stream)
    try:
        raise ValueError("x")
    except ValueError:
        logging.getLogger("ztunnel.app").exception("failed")
    assert (
        'trace="ValueError at test_an_unexpected_error_says_where_it_came_from:'
        in stream.getvalue()
    )
    assert stream.getvalue().count("\n") == 1


def test_lines_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    telemetry.set_up(level="error", stream=stream)
    logging.getLogger("ztunnel.app").warning("quiet")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("directives", "levels"),
    [
        ("debug", {"": 10}),
        ("INFO", {"": 20}),
        ("off", {"": 60}),
        ("warn,identity=trace,access=off", {"": 30, "identity": 5, "access": 60}),
        ("ztunnel::identity::manager=debug", {"": 20, "ztunnel::identity::manager": 10}),
        ("identity:debug, error", {"": 40, "identity": 10}),
    ],
)
def test_a_filter_is_a_level_and_levels_of_targets(directives: str, levels: dict[str, int]) -> None:
    assert telemetry.levels_of(directives) == levels


@pytest.mark.parametrize("directives", ["", "verbose", "a=b=c", "=info", "info,", "a::b", "a="])
def test_what_is_no_filter_is_named(directives: str) -> None:
    with pytest.raises(ValueError, match="not a log level nor `target=level`: `"):
        telemetry.levels_of(directives)


def test_a_targets_level_holds_for_the_modules_below_it() -> None:
    stream = io.StringIO()
    telemetry.set_up(level="error,ztunnel::of_this_test=debug", stream=stream)
    logging.getLogger("ztunnel.of_this_test.below").debug("heard")
    logging.getLogger("ztunnel.elsewhere").warning("not heard")
    logging.getLogger("ztunnel.of_this_test").setLevel(logging.NOTSET)
    (line,) = stream.getvalue().splitlines()
    assert "\theard" in line
