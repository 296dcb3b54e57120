"""15008 before a tunnel stands: those who do not speak TLS, and those who stop in the middle.

What is no TLS is turned away at once; whoever stops is held for its deadline and no longer, with a line in the log
that names the place; a well-behaved neighbour notices nothing (spec/reliability.md T01-T04, BI-T). Floods in a tunnel
that stands are in test_hostile_http2.py, crowds in test_hostile_crowds.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import ssl
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hyperframe.frame import PingFrame

from tests.support.certs import client_context, client_hello
from tests.support.hbone_peer import PREFACE, Ended, Wire, connect, raw_frame
from tests.support.lab import Lab, Neighbour

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

pytestmark = pytest.mark.asyncio

NETWORK = "127.2"
# Each deadline of the node, in seconds; and what slow cores may add to it. A node that forgets somebody holds him for ever.
HELD = 1.0
SLACK = 15.0
# A tunnel that answers no ping ends so soon: after the interval, and what an answer may take.
PING_INTERVAL, PING_TIMEOUT = 0.5, 2.0
DEADLINES = ("handshake", "preface", "headers")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    deadlines = dict.fromkeys(DEADLINES, f"{HELD}s")
    deadlines |= {"pingInterval": f"{PING_INTERVAL}s", "pingTimeout": f"{PING_TIMEOUT}s"}
    with Lab(tmp_path_factory.mktemp("hostile"), network=NETWORK, deadlines=deadlines) as lab:
        yield lab


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A node whose deadlines nobody here lives to see: what it ends, it ends at once."""
    deadlines = dict.fromkeys(DEADLINES, "10m")
    with Lab(tmp_path_factory.mktemp("patient"), network=NETWORK, deadlines=deadlines) as lab:
        yield lab


PROXY_V2 = bytes.fromhex("0d0a0d0a000d0a515549540a 2111 000c 0a000001 0a000002 1234 0050")
NO_TLS = r"^tls handshake error: peer does not speak TLS, it began with `"
NOISE = random.Random(15008).randbytes(4096)
GREETINGS = {
    "plain HTTP": (b"GET / HTTP/1.1\r\nHost: web\r\n\r\n", "not_tls", NO_TLS + "GET / HTTP/1.1"),
    "HTTP/2 in the clear": (PREFACE, "not_tls", NO_TLS + r"PRI \* HTTP/2\.0"),
    "SSH": (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "not_tls", NO_TLS + "SSH-2.0-OpenSSH"),
    "PROXY v1": (b"PROXY TCP4 10.0.0.1 10.0.0.2 4660 80\r\n", "not_tls", NO_TLS + "PROXY TCP4"),
    "PROXY v2": (PROXY_V2, "not_tls", NO_TLS),
    "noise": (bytes([0x80]) + NOISE, "not_tls", NO_TLS),
    "SSLv2": (bytes.fromhex("802e0100020015000000100100800200800300800400800500800600400700c0")
              + NOISE[:16], "not_tls", NO_TLS),
    "a line that tries to forge another one": (
        b"x\n{\"level\":\"info\"}\n\x1b[2J\x00", "not_tls", NO_TLS + "x"
    ),
    "noise in a record": (
        b"\x16\x03\x01\x01\x00" + NOISE[:256], "protocol", "^tls error: peer broke the protocol: "
    ),
    "an endless hello": (
        b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + NOISE * 16, None, "^tls "
    ),
    "a record past any limit": (b"\x16\x03\x01\xff\xff" + NOISE * 32, None, "^tls "),
    "application data first": (b"\x17\x03\x03\x00\x20" + NOISE[:32], "protocol", "^tls error: "),
    "an alert first": (b"\x15\x03\x03\x00\x02\x02\x28", "peer_alert:handshake_failure", "^tls "),
    "nothing but empty records": (b"\x16\x03\x01\x00\x00" * 4096, None, "^tls "),
}  # fmt: skip


@pytest.mark.parametrize(("words", "reason", "said"), GREETINGS.values(), ids=GREETINGS)
async def test_who_does_not_speak_tls_is_turned_away_at_once(
    patient: Lab, words: bytes, reason: str | None, said: str
) -> None:
    lines = len(patient.node.access)
    async with Neighbour(patient) as neighbour, await Wire.bare(patient.inbound) as peer:
        # A peer that is still talking when it is turned away is told so by a RST.
        await asyncio.gather(peer.send(words), return_exceptions=True)
        await peer.rest()
        line = await patient.logged(lines, message="connection failed", src_addr=peer.name)
        await neighbour.more_trips(1)
    assert re.search(said, line["error"]), line["error"]
    assert line["error"].isprintable()
    assert len(line["error"]) < 300
    if reason:
        assert await patient.refused("inbound", reason) > 0
    neighbour.was_undisturbed()


CONTEXTS = {
    "TLS 1.2": (
        client_context(version=ssl.TLSVersion.TLSv1_2),
        "unsupported_version",
        "tls handshake error: peer does not offer TLS 1.3",
        "TLSV1_ALERT_PROTOCOL_VERSION",
    ),
    "HTTP/1.1 only": (
        client_context(alpn=["http/1.1"]),
        "no_application_protocol",
        "tls handshake error: peer does not offer application protocol `h2`",
        ".*(?i:no.application.protocol)",
    ),
}


@pytest.mark.parametrize(
    ("context", "reason", "said", "alert"), CONTEXTS.values(), ids=CONTEXTS
)  # fmt: skip
async def test_a_client_of_another_protocol_gets_the_alert_that_says_so(
    lab: Lab, context: ssl.SSLContext, reason: str, said: str, alert: str
) -> None:
    lines, before = len(lab.node.access), await lab.refused("inbound", reason)
    with pytest.raises(Ended, match=alert):
        await Wire.dial(lab.inbound, context)
    line = await lab.logged(lines, message="connection failed")
    assert line["error"] == said
    assert await lab.refused("inbound", reason) == before + 1
    await lab.assert_good_tunnels_pass()


async def silent(lab: Lab) -> Wire:
    return await Wire.bare(lab.inbound)


async def half_a_hello(lab: Lab) -> Wire:
    wire = await Wire.bare(lab.inbound)
    hello = client_hello()
    await wire.send(hello[: len(hello) // 2])
    return wire


async def hello_and_nothing(lab: Lab) -> Wire:
    wire = await Wire.bare(lab.inbound)
    await wire.send(client_hello())
    return wire


async def trickled_hello(lab: Lab) -> Wire:
    wire = await Wire.bare(lab.inbound)
    trickle(wire, client_hello())
    return wire


async def tls_and_nothing(lab: Lab) -> Wire:
    return await Wire.dial(lab.inbound, lab.as_client())


async def half_a_preface(lab: Lab) -> Wire:
    wire = await Wire.dial(lab.inbound, lab.as_client())
    await wire.send(PREFACE[:12])
    return wire


async def preface_without_settings(lab: Lab) -> Wire:
    wire = await Wire.dial(lab.inbound, lab.as_client())
    await wire.send(PREFACE)
    return wire


async def half_a_frame_header(lab: Lab) -> Wire:
    wire = await Wire.meet(lab.inbound, lab.as_client())
    await wire.send(raw_frame(1, 4, 1)[:5])
    return wire


async def headers_without_a_byte(lab: Lab) -> Wire:
    wire = await Wire.meet(lab.inbound, lab.as_client())
    await wire.send(raw_frame(1, 4, 1, length=1))
    return wire


async def half_an_unknown_frame(lab: Lab) -> Wire:
    wire = await Wire.meet(lab.inbound, lab.as_client())
    await wire.send(raw_frame(0xFA, 0, 0, bytes(100), length=200))
    return wire


async def half_of_headers(lab: Lab) -> Wire:
    wire = await Wire.meet(lab.inbound, lab.as_client())
    head = wire.head(*connect(lab.authority_of_web)).serialize()
    await wire.send(head[:-4])
    return wire


async def continuation_that_never_comes(lab: Lab) -> Wire:
    wire = await Wire.meet(lab.inbound, lab.as_client())
    head = wire.head(*connect(lab.authority_of_web))
    head.flags.discard("END_HEADERS")
    await wire.send(head)
    return wire


async def trickled_continuations(lab: Lab) -> Wire:
    wire = await continuation_that_never_comes(lab)
    trickle(wire, *[raw_frame(9, 0, 1, b"\x82")] * 40)
    return wire


async def half_a_ping(lab: Lab) -> Wire:
    wire = await Wire.meet(lab.inbound, lab.as_client())
    await wire.send(raw_frame(6, 0, 0, b"1234", length=8))
    return wire


HANDSHAKE = ("handshake_timeout", r"^timed out after 1s: TLS handshake")
NO_PREFACE = ("preface_timeout", r"^timed out after 1s: HTTP/2 preface")
HEADERS = ("headers_timeout", r"^timed out after 1s: unfinished HTTP/2 ")
STALLS = {
    "connected": (silent, *HANDSHAKE),
    "half of a ClientHello": (half_a_hello, *HANDSHAKE),
    "a ClientHello": (hello_and_nothing, *HANDSHAKE),
    "a ClientHello in drops": (trickled_hello, *HANDSHAKE),
    "TLS": (tls_and_nothing, *NO_PREFACE),
    "half of a preface": (half_a_preface, *NO_PREFACE),
    "a preface": (preface_without_settings, *NO_PREFACE),
    "half of a frame's header": (half_a_frame_header, *HEADERS),
    "HEADERS without a byte of them": (headers_without_a_byte, *HEADERS),
    "half of an unknown frame": (half_an_unknown_frame, *HEADERS),
    "half of HEADERS": (half_of_headers, *HEADERS),
    "HEADERS without their CONTINUATION": (continuation_that_never_comes, *HEADERS),
    "CONTINUATION in drops": (trickled_continuations, *HEADERS),
    "half of a PING": (half_a_ping, *HEADERS),
}


class Outcome(NamedTuple):
    """What became of one who stopped."""

    held: float
    error: str
    """What the log says of it."""


@pytest.fixture(scope="module")
def outcomes(lab: Lab) -> dict[str, Outcome]:
    """Everybody stops at the same time: one by one, all that this file does is wait."""

    async def one(stall: Callable[[Lab], Awaitable[Wire]], lines: int) -> Outcome:
        began = time.monotonic()
        async with await stall(lab) as peer:
            await peer.rest()
            held = time.monotonic() - began
            line = await lab.logged(lines, message="connection failed", src_addr=peer.name)
        return Outcome(held, line["error"])

    async def all_at_once() -> dict[str, Outcome]:
        lines, before = len(lab.node.access), await reasons(lab)
        async with Neighbour(lab) as neighbour:
            ended = await asyncio.gather(*(one(stall, lines) for stall, *_ in STALLS.values()))
        neighbour.was_undisturbed()
        counted = await reasons(lab) - before
        assert counted == Counter(reason for _, reason, _ in STALLS.values())
        return dict(zip(STALLS, ended, strict=True))

    return asyncio.run(all_at_once())


async def reasons(lab: Lab) -> Counter[str]:
    """How often the node has refused a peer, for each of the reasons here."""
    kinds = {reason for _, reason, _ in STALLS.values()}
    return Counter({reason: int(await lab.refused("inbound", reason)) for reason in kinds})


@pytest.mark.parametrize("where", STALLS)
async def test_who_stops_in_the_middle_is_held_for_the_deadline_and_no_longer(
    outcomes: dict[str, Outcome], where: str
) -> None:
    held, error = outcomes[where]
    assert HELD * 0.9 < held < HELD + SLACK, f"held for {held:.2f} s"
    assert re.search(STALLS[where][2], error), error


async def test_neighbours_go_on_while_all_of_those_are_held(patient: Lab) -> None:
    async with Neighbour(patient) as neighbour, contextlib.AsyncExitStack() as crowd:
        for stall, *_ in STALLS.values():
            peer = await stall(patient)
            crowd.push_async_exit(peer)
        await neighbour.more_trips(3)
    neighbour.was_undisturbed()


async def test_a_tunnel_that_answers_no_ping_ends(lab: Lab) -> None:
    lines, least = len(lab.node.access), PING_INTERVAL + PING_TIMEOUT
    async with Neighbour(lab) as neighbour:
        began = time.monotonic()
        async with await Wire.meet(lab.inbound, lab.as_client()) as peer:
            await peer.rest()  # which answers nothing
            held = time.monotonic() - began
            line = await lab.logged(lines, message="connection failed", src_addr=peer.name)
    assert least * 0.9 < held < least + SLACK, f"held for {held:.2f} s"
    assert line["error"] == "HBONE ping timeout"
    neighbour.was_undisturbed()


async def test_a_tunnel_that_only_answers_pings_may_stay(lab: Lab) -> None:
    async with await Wire.meet(lab.inbound, lab.as_client()) as peer:
        # One more than fit into the time after which it would have ended; each is answered as it comes.
        for _ in range(int((PING_INTERVAL + PING_TIMEOUT) / PING_INTERVAL) + 2):
            await peer.until(lambda frame: isinstance(frame, PingFrame) and not frame.flags)
        await peer.pong()


def trickle(wire: Wire, *pieces: bytes) -> None:
    """Sends piece after piece (a single one byte after byte), slowly, until it is done or nobody listens."""
    drops = [pieces[0][i : i + 1] for i in range(len(pieces[0]))] if len(pieces) == 1 else pieces
    left = iter(drops)

    def step() -> None:
        piece = next(left, None)
        if piece is not None and not wire.writer.is_closing():
            wire.writer.write(piece)
            asyncio.get_running_loop().call_later(HELD / 20, step)

    step()
