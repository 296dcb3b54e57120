"""What either one makes of a scripted receiver's answers: the line that it logs, and what its application hears.

The counterpart of `test_upstream_asked.py`: the same hands, at the other end. The port that is asked for says which
answer is given. Upstream's lines are the measure of ours (spec/dataplane.md §2.4, §4, §14).
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, RstStreamFrame

from tests.interop.conftest import make_town
from tests.interop.upstream import comparable
from tests.netns.namespaces import Network
from tests.support.hbone_peer import END_STREAM, PREFACE, Wire, serve
from tests.support.nodes import eventually

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.interop.upstream import Town
    from tests.support.apps import Heard

    Answer = Callable[[Wire, int], Awaitable[None]]

# The first test waits for towns on both sides.
pytestmark = [pytest.mark.root, pytest.mark.upstream, pytest.mark.timeout(120)]

CANCEL = 8


def status(code: int) -> Answer:
    """Only this."""

    async def give(wire: Wire, stream: int) -> None:
        await wire.send(wire.head_on(stream, (":status", str(code)), end=True))

    return give


def resets(code: int) -> Answer:
    """RST_STREAM before any answer."""

    async def give(wire: Wire, stream: int) -> None:
        await wire.send(RstStreamFrame(stream, error_code=code))

    return give


def goes_away(code: int) -> Answer:
    """GOAWAY that does not cover the request, and the end of the connection."""

    async def give(wire: Wire, stream: int) -> None:
        await wire.send(GoAwayFrame(0, last_stream_id=0, error_code=code))
        await wire.close()

    return give


async def leaves(wire: Wire, _: int) -> None:
    """The end of the connection, and no word before."""
    await wire.close()


def says(*frames: str, code: int = CANCEL) -> Answer:
    """200, some bytes, and an end."""

    async def give(wire: Wire, stream: int) -> None:
        await wire.send(wire.head_on(stream, (":status", "200")))
        if "data" in frames:
            await wire.send(DataFrame(stream, data=b"an answer"))
        if "end" in frames:
            await wire.send(DataFrame(stream, flags=[END_STREAM]))
        if "reset" in frames:
            await wire.send(RstStreamFrame(stream, error_code=code))
        if "leave" in frames:
            await wire.close()

    return give


STATUSES: dict[str, Answer] = {
    f"status {code}": status(code) for code in (201, 204, 299, 302, 400, 401, 403, 404, 500, 503)
}
BREAKS: dict[str, Answer] = {
    **{f"RST_STREAM({code}) for an answer": resets(code) for code in (0, 1, 2, 5, 7, 8, 11, 99)},
    **{f"GOAWAY({code}) for an answer": goes_away(code) for code in (0, 2, 11)},
    "the end of the connection for an answer": leaves,
}
ENDS: dict[str, Answer] = {
    "an answer and its end": says("data", "end"),
    "an end without an answer": says("end"),
}
# Upstream makes a FIN of them, ours a RST (spec/dataplane.md §20.2.20); what is logged depends on who is first.
ABNORMAL: dict[str, Answer] = {
    "an answer, then RST_STREAM(NO_ERROR)": says("data", "reset", code=0),
    "an answer, then RST_STREAM(CANCEL)": says("data", "reset"),
    "an answer, then RST_STREAM(INTERNAL_ERROR)": says("data", "reset", code=2),
    "an answer, then the end of the connection": says("data", "leave"),
}
ANSWERS = {**STATUSES, **BREAKS, **ENDS, **ABNORMAL}
PORTS = {name: 20000 + number for number, name in enumerate(ANSWERS)}
BY_PORT = {port: ANSWERS[name] for name, port in PORTS.items()}
IMPOSTER = "somebody else's certificate"


class Seen(NamedTuple):
    """Of one connection: what its application heard, and the lines about it."""

    heard: Heard
    lines: list[Any]


async def script(wire: Wire) -> None:
    """Answers every request by its port."""
    await wire.reader.readexactly(len(PREFACE))
    await wire.greet()
    while True:
        frame = await wire.frame()
        if isinstance(frame, HeadersFrame):
            head = dict(wire.decoder.decode(frame.data, raw=True))
            port = int(head[b":authority"].rpartition(b":")[2])
            await BY_PORT[port](wire, frame.stream_id)


@contextmanager
def receiving(town: Town) -> Iterator[None]:
    """The scripted receiver, on the machine without a proxy."""
    context = town.peer_as_server("spiffe://cluster.local/ns/default/sa/plain")
    ready = threading.Event()
    ending: list[Callable[[], object]] = []

    async def play() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        ending.append(lambda: loop.call_soon_threadsafe(over.set))
        async with serve(("", 15008), context, script):
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: town.stranger.call(asyncio.run, play()))
    thread.start()
    try:
        assert ready.wait(10)
        yield
    finally:
        for end in ending:
            end()
        thread.join(10)


def look(town: Town) -> dict[str, Seen]:
    """Make a connection for every answer."""
    seen = {}
    with receiving(town):
        cases = {name: (town.stranger.address, port) for name, port in PORTS.items()}
        for name, address in {**cases, IMPOSTER: (town.unknown, 20000)}.items():
            before = len(town.near.told())
            heard = town.client.tries(address)
            with suppress(pytest.fail.Exception):
                eventually(lambda: len(town.near.told()) > before, "a line", within=3)  # noqa: B023
            seen[name] = Seen(heard, [comparable(line) for line in town.near.told()[before:]])
    return seen


@pytest.fixture(scope="module")
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Seen]]:
    """Either one as the client's proxy."""
    seen = {}
    for side in ("ours", "upstream"):
        folder = tmp_path_factory.mktemp(side)
        with (
            Network() as network,
            make_town(request.config, f"{side}-to-{side}", network, folder) as town,
        ):
            town.mesh.edit("plain")["protocol"] = "HBONE"
            town.mesh.workload("imposter", workloadIps=[town.unknown])
            with town.running():
                seen[side] = look(town)
    return seen


@pytest.mark.parametrize("named", [*STATUSES, *ENDS])
def test_the_log_line_is_upstreams(both: dict[str, dict[str, Seen]], named: str) -> None:
    assert both["ours"][named].lines == both["upstream"][named].lines


@pytest.mark.parametrize("named", [*BREAKS, IMPOSTER])
def test_a_request_that_gets_no_answer_is_logged_as_upstreams_but_for_the_words_of_its_library(
    both: dict[str, dict[str, Seen]], named: str
) -> None:
    told = []
    for side in ("ours", "upstream"):
        (line,) = both[side][named].lines
        fields = dict(line)
        fields["error"] = fields["error"].partition(": ")[0]
        told.append(list(fields.items()))
    assert told[0] == told[1]
    assert told[0][-1] == ("error", "io error" if named == IMPOSTER else "h2 failed")


@pytest.mark.parametrize("named", [*ANSWERS, IMPOSTER])
def test_the_application_hears_the_same_bytes(both: dict[str, dict[str, Seen]], named: str) -> None:
    assert both["ours"][named].heard.data == both["upstream"][named].heard.data


@pytest.mark.parametrize("named", ABNORMAL)
def test_a_truncated_answer_looks_whole_behind_upstream_and_does_not_behind_ours(
    both: dict[str, dict[str, Seen]], named: str
) -> None:
    assert both["upstream"][named].heard.end == "FIN"
    assert both["ours"][named].heard.end == "ECONNRESET"
