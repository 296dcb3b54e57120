"""Which log lines are wanted: the same tables as the Rust side's `filter/tests.rs`."""

from __future__ import annotations

import pytest

from ztunnel.telemetry.filter import LEVELS, Filter


@pytest.mark.parametrize(
    ("directives", "shown"),
    [
        ("info", "info"),
        ("OFF", "off"),
        ("access=debug", "access=debug,info"),
        ("debug, access=off", "access=off,debug"),
        ("access=debug,proxy::inbound=trace,warn", "proxy::inbound=trace,access=debug,warn"),
        ("access:debug", "access=debug,info"),
        ("ztunnel::proxy:trace", "ztunnel::proxy=trace,info"),
        ("access=info,access=debug", "access=debug,info"),
        ("aa=debug,cc=warn,bb=off", "cc=warn,bb=off,aa=debug,info"),
    ],
)
def test_filters_show_the_longest_target_first_and_the_default_last(
    directives: str, shown: str
) -> None:
    assert str(Filter.parse(directives)) == shown
    assert Filter.parse(shown) == Filter.parse(directives)


@pytest.mark.parametrize(
    ("directives", "level", "target", "passes"),
    [
        ("info", "info", "app", True),
        ("info", "debug", "app", False),
        ("off", "error", "app", False),
        ("info,app=debug", "debug", "ztunnel::app", True),
        ("info,ztunnel::app=debug", "debug", "ztunnel::app", True),
        ("xds=off,xds::client=info", "info", "ztunnel::xds::client", True),
        ("xds=off,xds::client=info", "info", "ztunnel::xds::delta", False),
        ("xds=off", "error", "ztunnel::xdsish", False),
        ("ztunnel=debug", "debug", "ztunnel::app", True),
        ("ztunnel=debug", "debug", "ztunnel", True),
        ("ztunnel=debug", "debug", "access", False),
        ("access=off", "error", "access", False),
        ("access=debug", "debug", "ztunnel::app", False),
    ],
)
def test_the_longest_target_decides(directives: str, level: str, target: str, passes: bool) -> None:
    assert Filter.parse(directives).allows(LEVELS[level], target) is passes


def test_a_log_starts_with_upstreams_prefix() -> None:
    assert str(Filter.startup("info")) == "hickory_server::server=off,info"
    wanted = "hickory_server::server=off,access=debug,info"
    assert str(Filter.startup("access=debug,info")) == wanted


def test_more_directives_are_laid_over_what_is_there() -> None:
    startup = Filter.parse("info,access=debug")
    more = startup.with_directives("access=warn,dns=debug")
    assert str(more) == "access=warn,dns=debug,info"
    with pytest.raises(ValueError, match="not a log level nor `target=level`: `bogus`"):
        startup.with_directives("dns=debug,bogus")


def test_the_lowest_level_lets_nothing_through_below_it() -> None:
    assert Filter.parse("error,app=debug,access=off").lowest == LEVELS["debug"]
    assert Filter.parse("off").lowest == LEVELS["off"]
