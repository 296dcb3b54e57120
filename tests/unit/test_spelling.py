"""Names, addresses and durations: what passes and what does not."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ztunnel import spelling

if TYPE_CHECKING:
    import ipaddress


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("7d", 604800),
        ("1d2h3m4s5ms", 93784.005),
        ("0s", 0),
        ("1m500ms", 60.5),
    ],
)
def test_a_duration_is_read_as_people_say_it(text: str, seconds: float) -> None:
    assert spelling.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "s",
        "-5s",
        "+5s",
        "5 s",
        "5S",
        "5sec",
        "1m1h",
        "5s5s",
        "1e3s",
        ".5s",
        "5.s",
        "∞",
        "٥s",
        "1us",
        "5s\n",
    ],
)
def test_a_text_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        spelling.duration(text)


@given(st.text(max_size=80))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert spelling.duration(text) >= 0


@given(st.integers(0, 10**9), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_a_number_with_a_unit_is_always_a_duration(number: int, unit: str) -> None:
    factor = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    assert spelling.duration(f"{number}{unit}") == pytest.approx(number * factor)


@given(st.ip_addresses())
def test_every_address_as_the_standard_library_writes_it_is_one(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert spelling.is_address(str(address))
    bracketed = f"[{address}]" if address.version == 6 else str(address)
    assert spelling.is_socket_address(f"{bracketed}:15008")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.0.0.300",
        "10.0.0.01",
        "10.0.0",
        "10.0.0.1 ",
        "fe80::1%eth0",
        "::g",
        "localhost",
        "1",
        "10.0.0.1\0",
    ],
)
def test_a_text_that_is_no_address_is_refused(text: str) -> None:
    assert not spelling.is_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:080",
        "::1:80",
        "[127.0.0.1]:80",
        ":80",
        "host:80",
        "[::1]80",
    ],
)
def test_a_text_that_is_no_address_with_port_is_refused(text: str) -> None:
    assert not spelling.is_socket_address(text)


@pytest.mark.parametrize(
    "text", ["web:80", "web.default.svc.cluster.local:80", "10.0.0.1:80", "[::1]:80", "a_b.c.:1"]
)
def test_a_target_is_a_name_or_an_address_with_a_port(text: str) -> None:
    assert spelling.is_target(text)


@pytest.mark.parametrize(
    "text",
    ["web", "web:", "web:0", "web:http", "10.0.0.300:80", ":80", "we b:80", "-a:80", "a:80\n"],
)
def test_a_text_that_is_no_target_is_refused(text: str) -> None:
    assert not spelling.is_target(text)


@pytest.mark.parametrize(
    ("text", "trust_domain", "segment"),
    [
        ("cluster.local", True, True),
        ("Cluster.local", False, True),
        ("", False, False),
        (".", True, False),
        ("..", True, False),
        ("a/b", False, False),
        ("a%41", False, False),
        ("é", False, False),
        ("a\n", False, False),
        ("a" * 256, False, True),
    ],
)
def test_names_follow_the_rules_of_the_rust_side(
    text: str, trust_domain: bool, segment: bool
) -> None:
    assert spelling.is_trust_domain(text) is trust_domain
    assert spelling.is_segment(text) is segment


@pytest.mark.parametrize(
    "text", ["127.0.0.1:0", "127.9.9.9:15000", "[::1]:1", "[0:0:0:0:0:0:0:1]:1"]
)
def test_a_loopback_address_is_known(text: str) -> None:
    assert spelling.is_loopback_socket_address(text)


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1", "0.0.0.0:1", "[::]:1", "128.0.0.1:1", "[::2]:1", "[::ffff:127.0.0.1]:1", "localhost:1", "127.1:1"],
)  # fmt: skip
def test_an_address_that_others_may_reach_is_none(text: str) -> None:
    assert not spelling.is_loopback_socket_address(text)
