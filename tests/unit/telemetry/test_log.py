"""Log lines, plain and JSON (spec/control.md §13)."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING

import pytest

from ztunnel.fields import SEVERAL_LINES, Bare, fields, span
from ztunnel.telemetry import log as telemetry
from ztunnel.telemetry.filter import Filter

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


def test_the_tab_behind_the_message_is_there_without_fields_too() -> None:
    assert written("plain", logging.INFO, "ready").endswith("\tready\t\n")


def test_bare_values_have_no_quotes_unless_they_need_them() -> None:
    line = written("plain", logging.INFO, "m", a=Bare("127.0.0.1:80"), b=Bare('x y="z"'), c="1:2")
    assert line.endswith('\ta=127.0.0.1:80 b="x y=\\"z\\"" c="1:2"\n')
    assert '"a":"127.0.0.1:80"' in written("json", logging.INFO, "m", a=Bare("127.0.0.1:80"))


def test_what_is_no_text_is_shown_as_the_rust_side_shows_it() -> None:
    evil = 'a"b\\c\nlevel=info\r\t\x1b[31m\u202e\x9b\0'
    plain = written("plain", logging.INFO, evil, error=evil)
    shown = r"\nlevel=info\r\t\u{1b}[31m\u{202e}\u{9b}\0"
    assert plain.endswith(f'\ta"b\\c{shown}\terror="a\\"b\\\\c{shown}"\n')
    as_json = written("json", logging.INFO, "m", error=evil)
    assert as_json.rstrip("\n").isprintable()
    assert json.loads(as_json)["error"] == evil


def test_long_values_are_cut() -> None:
    for style in ("plain", "json"):
        assert len(written(style, logging.INFO, "m", error="x" * 100_000)) < 1300


def test_a_span_stands_behind_the_target_and_at_the_end_of_an_object() -> None:
    shown_as: dict[LogFormat, str] = {
        "plain": "\txds::client:xds{id=1}\tStream established\t\n",
        "json": '"message":"Stream established","xds":{"id":1}}\n',
    }
    for style, shown in shown_as.items():
        stream = io.StringIO()
        telemetry.set_up(style=style, stream=stream)
        log = logging.getLogger("ztunnel.xds.client")
        log.info("Stream established", extra=span("xds", id=1))
        assert stream.getvalue().endswith(shown)


def test_a_message_that_is_ours_may_have_several_lines() -> None:
    shown_as: dict[LogFormat, str] = {
        "plain": "\tztunnel\trunning with config: proxy: true\ndnsProxy: false\n\t\n",
        "json": '"message":"running with config: proxy: true\\ndnsProxy: false\\n"}\n',
    }
    for style, shown in shown_as.items():
        stream = io.StringIO()
        telemetry.set_up(style=style, stream=stream)
        text = "running with config: proxy: true\ndnsProxy: false\n"
        logging.getLogger("ztunnel").info(text, extra={SEVERAL_LINES: True})
        assert stream.getvalue().endswith(shown)


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
    (line,) = stream.getvalue().splitlines()
    assert "\theard" in line


def test_the_filter_of_a_running_log_is_exchanged() -> None:
    stream = io.StringIO()
    telemetry.set_up(level="warn", stream=stream)
    log = logging.getLogger("ztunnel.app")
    log.info("one")
    telemetry.use(Filter.parse("app=debug,error"))
    log.debug("two")
    logging.getLogger("ztunnel.xds").warning("three")
    telemetry.use(Filter.parse("off"))
    log.error("four")
    assert [line.split("\t")[3] for line in stream.getvalue().splitlines()] == ["two"]
