"""Whom the node dials may be hostile too: what its application is told, when, and what the log says.

The application gets a RST (or a SOCKS5 reply first) within the deadline, whatever the server does; the next connection, to
a server that behaves, is served (spec/reliability.md U4, U5, F08, F09, F36, F37). Servers whose certificate is not
believed are in test_refusals.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from typing import TYPE_CHECKING

import pytest
from hyperframe.frame import (
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

from tests.support.hbone_peer import PREFACE, Ended, Wire, answering, listening, raw_frame, serve
from tests.support.lab import PEER, Lab, dial_out

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

pytestmark = pytest.mark.asyncio

NETWORK = "127.2"
HELD = 1.0
# What slow cores may add to a deadline. Without one a client would be held for as long as the server likes.
SLACK = 15.0
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    # Different ones, so that the time tells which of them it was.
    deadlines = {"handshake": f"{HELD}s", "preface": f"{HELD}s", "headers": f"{HELD}s"}
    with Lab(
        tmp_path_factory.mktemp("servers"),
        network=NETWORK,
        deadlines={**deadlines, "connect": f"{2 * HELD}s"},
    ) as lab:
        yield lab


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A node whose deadlines nobody here lives to see: what it ends, it ends at once."""
    deadlines = dict.fromkeys(("handshake", "preface", "headers", "connect"), "10m")
    with Lab(tmp_path_factory.mktemp("patient"), network=NETWORK, deadlines=deadlines) as lab:
        yield lab


def says(words: bytes) -> Callable[[Wire], Awaitable[None]]:
    async def script(wire: Wire) -> None:
        await wire.send(words)
        await wire.reader.read()

    return script


async def hangs_up(wire: Wire) -> None:
    await wire.reader.read(1)


async def resets(wire: Wire) -> None:
    await wire.reader.read(1)
    wire.writer.transport.abort()


NO_TLS = {
    "hangs up": (hangs_up, "ended_in_handshake", "peer closed the connection before the end of it"),
    "speaks HTTP": (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "not_tls", "began with `HTTP/1.1 400"),
    "speaks SSH": (says(b"SSH-2.0-OpenSSH_9.2\r\n"), "not_tls", "began with `SSH-2.0-OpenSSH_9.2"),
    "speaks HTTP/2 in the clear": (says(SettingsFrame().serialize()), "not_tls", "does not speak TLS"),
    "answers with noise": (says(b"\x16\x03\x03\x00\x40" + b"\xa5" * 64), "protocol", "broke the protocol"),
    "answers with an alert": (
        says(b"\x15\x03\x03\x00\x02\x02\x28"), "peer_alert:handshake_failure", "alert handshake_failure",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("script", "reason", "said"), NO_TLS.values(), ids=NO_TLS)
async def test_a_server_that_speaks_no_tls_is_a_reset_at_once(
    patient: Lab, script: Callable[[Wire], Awaitable[None]], reason: str, said: str
) -> None:
    async with bare(patient, script):
        _, line = await fails(patient, "reply 1, ECONNRESET")
    assert said in line
    assert await patient.refused("outbound", reason) > 0
    await patient.assert_good_tunnels_pass()


async def test_a_server_that_says_nothing_holds_its_own_clients_for_the_deadline(lab: Lab) -> None:
    other = asyncio.ensure_future(waits_out(lab))
    async with bare(lab, says(b"")):
        took, line = await fails(lab, "reply 1, ECONNRESET")
        assert HELD * 0.9 < took < HELD + SLACK, f"{took:.2f} s"
        assert "timed out after 1s: TLS handshake" in line
        await other
    await lab.assert_good_tunnels_pass()


async def test_nobody_listening_is_refused_at_once(patient: Lab) -> None:
    _, line = await fails(patient, "reply 5, ECONNRESET")
    assert line == "io error: Connection refused (os error 111)"
    await patient.assert_good_tunnels_pass()


VERSIONS = {
    "TLS 1.2": (
        ssl.TLSVersion.TLSv1_2,
        ["h2"],
        "TLS 1.3|protocol_version|peer closed the connection",
    ),
    "HTTP/1.1": (ssl.TLSVersion.TLSv1_3, ["http/1.1"], "application.protocol|HTTP/2|alert"),
}


@pytest.mark.parametrize(("version", "alpn", "said"), VERSIONS.values(), ids=VERSIONS)
async def test_a_server_of_another_protocol_is_a_reset_at_once(
    patient: Lab, version: ssl.TLSVersion, alpn: list[str], said: str
) -> None:
    context = patient.as_server()
    context.minimum_version = version
    context.maximum_version = version
    context.set_alpn_protocols(alpn)
    async with serve((patient.peer, 15008), context, says(b"HTTP/1.1 400 Bad Request\r\n\r\n")):
        _, line = await fails(patient, "reply 1, ECONNRESET")
    assert re.search(said, line), line
    await patient.assert_good_tunnels_pass()


async def test_a_server_that_chooses_no_protocol_by_name_is_believed(lab: Lab) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf = lab.authority.leaf(PEER)
    file = lab.mesh.folder / "without-alpn.pem"
    file.write_bytes(leaf.chain + leaf.key)
    context.load_cert_chain(file)
    async with serve((lab.peer, 15008), context, answering(200)):
        assert (await asyncio.to_thread(dial_out, lab)).what == "answered"


async def speaks_http1(wire: Wire) -> None:
    await wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await wire.reader.read()


async def says_nothing_in_tls(wire: Wire) -> None:
    await wire.reader.read()


async def never_answers(wire: Wire) -> None:
    await begin(wire)
    await wire.end()


async def stops_within_its_answer(wire: Wire) -> None:
    stream = await begin(wire)
    await wire.send(wire.head_on(stream, (":status", "200")).serialize()[:-1])
    await wire.end()


async def goes_away(wire: Wire) -> None:
    await begin(wire)
    await wire.send(GoAwayFrame(last_stream_id=0, error_code=11, additional_data=b"too_many"))
    await wire.end()


async def resets_every_stream(wire: Wire) -> None:
    async for stream in requests(wire):
        await wire.send(RstStreamFrame(stream, error_code=2))


async def refuses_every_stream(wire: Wire) -> None:
    async for stream in requests(wire):
        await wire.send(RstStreamFrame(stream, error_code=7))


async def takes_no_streams(wire: Wire) -> None:
    await wire.reader.readexactly(len(PREFACE))
    await wire.send(SettingsFrame(settings={SettingsFrame.MAX_CONCURRENT_STREAMS: 0}))
    while True:  # those that were under way
        stream = (await wire.until(lambda f: isinstance(f, HeadersFrame))).stream_id
        await wire.send(RstStreamFrame(stream, error_code=7))


async def answers_without_status(wire: Wire) -> None:
    async for stream in requests(wire):
        await wire.send(wire.head_on(stream, ("x-status", "200")))


async def answers_a_status_that_is_none(wire: Wire) -> None:
    async for stream in requests(wire):
        await wire.send(wire.head_on(stream, (":status", "2\u0660\u0660")))


async def answers_data_first(wire: Wire) -> None:
    async for stream in requests(wire):
        await wire.send(DataFrame(stream, data=b"no head"))


async def pushes(wire: Wire) -> None:
    await begin(wire)
    await wire.send(raw_frame(5, 4, 1, b"\0\0\0\2\x82"))
    await wire.end()


async def floods_pings(wire: Wire) -> None:
    await begin(wire)
    await wire.send(PingFrame(opaque_data=b"12345678").serialize() * 5_000)
    await wire.end()


async def floods_settings(wire: Wire) -> None:
    await begin(wire)
    await wire.send(SettingsFrame().serialize() * 5_000)
    await wire.end()


async def bombs(wire: Wire) -> None:
    async for stream in requests(wire):
        planted = wire.encoder.encode([(":status", "200"), ("x-bomb", "b" * 3900)])
        head = HeadersFrame(stream, data=planted + b"\xbe" * 60_000, flags=["END_HEADERS"])
        await wire.send(head)


async def interim_for_ever(wire: Wire) -> None:
    stream = await begin(wire)
    for _ in range(5_000):
        await wire.send(wire.head_on(stream, (":status", "103")))
    await wire.end()


H2 = "reply 1, ECONNRESET"
LATE = "reply 6, ECONNRESET"
SERVERS = {
    "speaks HTTP/1.1 in TLS": (speaks_http1, H2, 0.0, "http/2 peer misbehaved"),
    "says nothing in TLS": (says_nothing_in_tls, None, HELD, "timed out after 1s: HTTP/2 preface"),
    "never answers": (never_answers, LATE, 2 * HELD, "no answer to CONNECT after 2s"),
    "stops within its answer": (stops_within_its_answer, None, HELD, "unfinished HTTP/2 header block"),
    "goes away": (goes_away, H2, 0.0, "h2 failed"),
    "resets every stream": (resets_every_stream, H2, 0.0, "stream reset by peer: INTERNAL_ERROR"),
    "refuses every stream": (refuses_every_stream, H2, 0.0, "stream refused by peer"),
    "takes no streams": (takes_no_streams, H2, 0.0, "peer accepts no streams"),
    "answers without a status": (answers_without_status, H2, 0.0, "PROTOCOL_ERROR"),
    "answers a status that is none": (answers_a_status_that_is_none, H2, 0.0, "PROTOCOL_ERROR"),
    "answers data first": (answers_data_first, H2, 0.0, "PROTOCOL_ERROR"),
    "pushes": (pushes, H2, 0.0, "PUSH_PROMISE is not allowed"),
    "floods PING": (floods_pings, H2, 0.0, "PING flood"),
    "floods SETTINGS": (floods_settings, H2, 0.0, "SETTINGS flood"),
    "sends an HPACK bomb": (bombs, H2, 0.0, "h2 failed"),
    "answers 103 for ever": (interim_for_ever, H2, 0.0, "flood"),
}  # fmt: skip


@pytest.mark.parametrize(("script", "told", "held", "said"), SERVERS.values(), ids=SERVERS)
async def test_a_server_that_breaks_http2_is_a_reset_for_its_client_alone(
    lab: Lab,
    script: Callable[[Wire], Awaitable[None]],
    told: str | None,
    held: float,
    said: str,
) -> None:
    memory = lab.node.resident()
    async with lab.playing_peer(script):
        took, line = await fails(lab, told)
    assert held * 0.9 < took < held + SLACK, f"{took:.2f} s"
    assert said in line
    assert lab.node.resident() - memory < 8 * MIB
    await lab.assert_good_tunnels_pass()


async def test_a_truncated_answer_never_looks_whole(lab: Lab) -> None:
    async def dies(wire: Wire) -> None:
        stream = await begin(wire)
        await wire.send(
            wire.head_on(stream, (":status", "200")), DataFrame(stream, data=b"half of an ans")
        )
        await wire.until(lambda f: isinstance(f, DataFrame))
        wire.writer.transport.abort()

    async with lab.playing_peer(dies):
        reader, writer = await asyncio.open_connection(*lab.local_port)
        writer.write(b"question")
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    await lab.assert_good_tunnels_pass()


async def begin(wire: Wire) -> int:
    """The server's side of HTTP/2 up to the first CONNECT; gives its stream."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        await wire.reader.readexactly(len(PREFACE))
        await wire.greet()
        return (await wire.until(lambda f: isinstance(f, HeadersFrame))).stream_id
    raise Ended("FIN before the preface")


async def requests(wire: Wire) -> AsyncIterator[int]:
    """The streams of one CONNECT after another."""
    yield await begin(wire)
    while True:
        yield (await wire.until(lambda f: isinstance(f, HeadersFrame))).stream_id


def bare(
    lab: Lab, script: Callable[[Wire], Awaitable[None]]
) -> contextlib.AbstractAsyncContextManager[None]:
    """A server without TLS at the peer's address."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await script(Wire(reader, writer))

    return listening((lab.peer, 15008), play)


async def fails(lab: Lab, told: str | None) -> tuple[float, str]:
    """Goes out through SOCKS5 and then through the local port; gives the longer time and the log's sentence."""
    lines, longest = len(lab.node.access), 0.0
    for socks5 in (True, False):
        began = time.monotonic()
        heard, name = await asyncio.to_thread(dial_out, lab, socks5=socks5)
        longest = max(longest, time.monotonic() - began)
        if not socks5:
            assert heard == "ECONNRESET"
        elif told is not None:
            assert heard == told
        else:
            assert re.fullmatch(r"reply \d, ECONNRESET", heard), heard
    any_error = re.compile(
        r"^(?!receive: )"
    )  # of a good connection, if our client's name is not known
    line = await lab.logged(lines, src_addr=name, direction="outbound", error=any_error)
    assert line["message"] == "connection complete"
    assert line["dst.addr"] == f"{lab.peer}:15008"
    return longest, str(line["error"])


async def waits_out(lab: Lab) -> None:
    """Somebody else's good tunnel while a bad server holds others."""
    async with (
        lab.application(),
        await Wire.meet(lab.inbound, lab.as_client()) as wire,
    ):
        began = time.monotonic()
        await wire.connect(lab.authority_of_web)
        assert time.monotonic() - began < HELD
