"""Which request gets which answer (spec/control.md §10.1, §17.7)."""

from __future__ import annotations

import pytest

from ztunnel.admin.messages import Answer, Request
from ztunnel.admin.routes import Routes, Sources
from ztunnel.testing import FakeDataPlane

ANY = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE")


class Log:
    """Shows one filter."""

    def shown(self) -> str:
        return "info"

    def change(self, *, reset: bool, directives: str | None) -> str:
        raise AssertionError("nobody asked")


class Site:
    """All endpoints, and what they did."""

    def __init__(self) -> None:
        self.ends = 0
        self.data_plane = FakeDataPlane()
        sources = Sources(
            data_plane=self.data_plane,
            sections={},
            certificate_states=dict,
            log=Log(),
            quit=self.quit,
        )
        self.routes = Routes(sources)

    def quit(self) -> None:
        self.ends += 1

    async def ask(self, method: str, target: str, **headers: str) -> Answer:
        request = Request(
            method=method, target=target, headers=(("host", "localhost"), *headers.items())
        )
        answer = await self.routes.answer(request)
        if answer.body is not None:
            answer.body.close()
        return answer


@pytest.mark.asyncio
async def test_the_index_leads_to_every_endpoint_with_any_method() -> None:
    site = Site()
    for method in ANY:
        page = await site.ask(method, "/")
        assert (page.status, page.kind) == (200, "text/html; charset=utf-8")
        for path in ("/config_dump", "/logging", "/quitquitquit", "/debug/pprof/profile"):
            assert path in page.text.decode()
    # A link is followed with GET, and these change something.
    assert 'href="/quitquitquit"' not in page.text.decode()
    assert 'href="/logging"' not in page.text.decode()


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ANY)
async def test_a_dump_comes_with_any_method(method: str) -> None:
    for target in ("/config_dump", "/config_dump?x=y", "http://localhost:15000/config_dump"):
        answer = await Site().ask(method, target)
        assert (answer.status, answer.kind) == (200, "application/json")


@pytest.mark.asyncio
async def test_only_a_post_ends_the_proxy() -> None:
    site = Site()
    for method in ANY:
        answer = await site.ask(method, "/quitquitquit")
        if method == "POST":
            assert (answer.status, answer.kind, answer.text) == (
                200,
                "text/plain",
                b"shutdown now\n",
            )
        else:
            assert (answer.status, answer.kind, answer.text) == (405, None, b"")
    assert site.ends == 1


@pytest.mark.asyncio
async def test_a_page_in_a_browser_does_not_end_the_proxy() -> None:
    site = Site()
    assert (await site.ask("POST", "/quitquitquit", origin="http://evil.example")).status == 403
    assert (
        await site.ask("POST", "/quitquitquit", **{"sec-fetch-site": "cross-site"})
    ).status == 403
    assert site.ends == 0


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "target",
    [
        "/nothing",
        "/x/%2e%2e/config_dump",
        "/x/../config_dump",
        "/config_dump;a",
        "/config_dump%3f",
        "/config_dump/",
        "//config_dump",
        "/Config_Dump",
        "*",
        "",
        "/%63onfig_dump",
    ],
)
async def test_an_unknown_path_is_not_found(target: str) -> None:
    answer = await Site().ask("GET", target)
    assert (answer.status, answer.kind, answer.text) == (404, None, b"")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("target", "status", "text"),
    [
        ("profile?seconds=301", 400, b"seconds must be"),
        ("heap", 500, b"heap profiling is not active"),
        ("heap/profiling", 200, b"heap profiling active: false\n"),
        ("heap/profiling?activate=perhaps", 400, b"activate must be"),
        ("goroutine", 404, b""),
    ],
)
async def test_profiles_are_found_where_upstream_has_them(
    target: str, status: int, text: bytes
) -> None:
    answer = await Site().ask("GET", f"/debug/pprof/{target}")
    assert answer.status == status
    assert answer.text.startswith(text)
