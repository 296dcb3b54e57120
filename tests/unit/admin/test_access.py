"""Who may ask the admin port for what (spec/reliability.md U12, T32)."""

from __future__ import annotations

import pytest

from ztunnel.admin.access import refusal
from ztunnel.admin.messages import Request

LOCAL = ("host", "localhost:15000")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:15000",
        "LocalHost:43123",
        "localhost.:15000",
        "127.0.0.1",
        "127.0.0.1:15000",
        "127.9.9.9:1",
        "[::1]",
        "[::1]:15000",
        "localhost:",
    ],
)
def test_a_loopback_name_is_answered(host: str) -> None:
    assert refusal(Request(method="GET", target="/config_dump", headers=(("host", host),))) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:15000",
        "localhost.evil.example",
        "evil.example:localhost",
        "localhost:15000:15000",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[::2]:15000",
        "[::1",
        "[::1]x",
        "[::ffff:10.0.0.1]",
        "0.0.0.0",  # noqa: S104
        "2130706433",
        "127.1",
        "",
        "user@localhost",
        "localhost, evil.example",
    ],
)
def test_any_other_name_is_refused_whatever_is_asked(host: str) -> None:
    for method in ("GET", "POST"):
        request = Request(method=method, target="/config_dump", headers=(("host", host),))
        answer = refusal(request)
        assert answer is not None
        assert answer.status == 403


def test_an_absolute_target_goes_before_the_header() -> None:
    good = Request(method="GET", target="http://localhost:1/", headers=(("host", "evil.example"),))
    bad = Request(method="GET", target="http://evil.example/", headers=(LOCAL,))
    assert refusal(good) is None
    assert refusal(bad) is not None


def test_a_client_without_a_host_is_no_browser() -> None:
    assert refusal(Request(method="POST", target="/quitquitquit")) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://localhost:15000"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ],
)
def test_a_page_changes_nothing(name: str, value: str) -> None:
    headers = (LOCAL, (name, value))
    for method in ("POST", "PUT", "DELETE", "PATCH", "BREW"):
        answer = refusal(Request(method=method, target="/quitquitquit", headers=headers))
        assert answer is not None, method
        assert answer.status == 403
    assert refusal(Request(method="GET", target="/", headers=headers)) is None


def test_istioctl_may_change_levels() -> None:
    """What Go's client sends through a port-forward."""
    headers = (("host", "localhost:43211"), ("user-agent", "Go-http-client/1.1"))
    request = Request(method="POST", target="/logging?level=debug", headers=headers)
    assert refusal(request) is None
