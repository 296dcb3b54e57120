"""A believed peer that turns on us: floods, bombs and broken frames in a tunnel that stands.

Its own tunnel ends with the right word (GOAWAY) and a line in the log that names the cause; its neighbour's stays, the
node's memory too (spec/reliability.md T05-T09, BI-F, BI-H). That the engine tells every malformed frame apart is tested in
rust/hbone; here it is about what a node's operator and its other users notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING

import pytest
from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame

from tests.support.hbone_peer import PREFACE, Ended, Wire, connect, listening, raw_frame
from tests.support.lab import DEADLINE, PORT, Lab, Neighbour

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from hyperframe.frame import Frame

pytestmark = pytest.mark.asyncio

NETWORK = "127.2"
MIB = 1024 * 1024
# What one flood may leave behind in the node's memory. Allocators keep some; a leak would be far above.
GROWTH = 16 * MIB
PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR = 1, 3, 6
REFUSED_STREAM, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 7, 9, 11
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GO_AWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("http2"), network=NETWORK) as lab:
        yield lab


def head(wire: Wire, lab: Lab) -> HeadersFrame:
    return wire.head(*connect(lab.authority_of_web))


def many(count: int, frame: bytes) -> Callable[[Wire, Lab], bytes]:
    return lambda _wire, _lab: frame * count


def rapid_reset(wire: Wire, lab: Lab) -> bytes:
    out = b""
    for _ in range(2_500):
        request = head(wire, lab)
        out += request.serialize() + RstStreamFrame(request.stream_id, error_code=8).serialize()
    return out


def endless_block(wire: Wire, lab: Lab) -> bytes:
    request = head(wire, lab)
    request.flags.discard("END_HEADERS")
    # Each field is indexed: one byte on the wire, some forty for whoever believes it.
    return request.serialize() + raw_frame(CONTINUATION, 0, 1, b"\x88" * 1024) * 200


def empty_continuations(wire: Wire, lab: Lab) -> bytes:
    request = head(wire, lab)
    request.flags.discard("END_HEADERS")
    return request.serialize() + raw_frame(CONTINUATION, 0, 1) * 5_000


def empty_data(wire: Wire, lab: Lab) -> bytes:
    return head(wire, lab).serialize() + raw_frame(DATA, 0, 1) * 5_000


def provoked_resets(wire: Wire, lab: Lab) -> bytes:
    """MadeYouReset: the peer's WINDOW_UPDATE of zero makes us reset the stream (CVE-2025-8671)."""
    out = b""
    for _ in range(2_000):
        request = head(wire, lab)
        out += request.serialize() + raw_frame(WINDOW_UPDATE, 0, request.stream_id, bytes(4))
    return out


def refused_streams(wire: Wire, lab: Lab) -> bytes:
    return b"".join(head(wire, lab).serialize() for _ in range(2_500))


# Less than what the node reads while it says goodbye: who goes on for longer gets a RST, which may overtake it.
FLOODS = {
    "PING": many(5_000, raw_frame(PING, 0, 0, b"12345678")),
    "SETTINGS": many(5_000, raw_frame(SETTINGS, 0, 0, bytes.fromhex("0003000000c8"))),
    "WINDOW_UPDATE": many(15_000, raw_frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1")),
    "PRIORITY": many(5_000, raw_frame(PRIORITY, 0, 3, b"\0\0\0\0\x10")),
    "unknown frame": many(5_000, raw_frame(0xFA, 0, 0, b"what?")),
    "GOAWAY": many(5_000, raw_frame(GO_AWAY, 0, 0, bytes(8))),
    "empty frame": empty_data,
    "rapid reset": rapid_reset,
    "stream error": provoked_resets,
    "refused stream": refused_streams,
    "header block": endless_block,
    "header block, empty CONTINUATION": empty_continuations,
}


@pytest.mark.parametrize(("name", "flood"), FLOODS.items(), ids=FLOODS)
async def test_a_flood_ends_its_own_tunnel_and_nobody_elses(
    lab: Lab, name: str, flood: Callable[[Wire, Lab], bytes]
) -> None:
    before, lines = lab.node.resident(), len(lab.node.access)
    async with Neighbour(lab) as neighbour:
        async with await Wire.meet(lab.inbound, lab.as_client()) as peer:
            pouring = asyncio.ensure_future(pour(peer, flood(peer, lab)))
            end = await peer.end()
            await pouring
            line = await lab.logged(lines, message="connection failed", src_addr=peer.name)
        await neighbour.more_trips(1)
    grown = lab.node.resident() - before
    what = name.partition(",")[0]
    assert line["error"] == f"http/2 peer misbehaved: {what} flood (ENHANCE_YOUR_CALM)"
    assert f"GoAway({ENHANCE_YOUR_CALM})" in end
    neighbour.was_undisturbed()
    assert grown < GROWTH, f"{grown / MIB:.1f} MiB stayed"
    # Streams come to the application, but no more of them than the limits let pass (T05: dials are bounded).
    assert neighbour.others() <= 1_100, f"{neighbour.others()} connections to the application"


async def test_a_peer_that_reads_no_answer_is_held_up_or_ended(lab: Lab) -> None:
    before = lab.node.resident()
    async with (
        Neighbour(lab) as neighbour,
        await Wire.meet(lab.inbound, lab.as_client()) as peer,
    ):
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        pouring = asyncio.ensure_future(pour(peer, raw_frame(PING, 0, 0, b"12345678") * 900_000))
        await neighbour.more_trips(5)
        grown = lab.node.resident() - before
        pouring.cancel()
        await asyncio.wait([pouring])
        peer.writer.transport.abort()
    assert grown < GROWTH, f"{grown / MIB:.1f} MiB for one peer that does not read"
    neighbour.was_undisturbed()


async def test_an_hpack_bomb_is_answered_with_431_and_takes_no_memory(lab: Lab) -> None:
    before = lab.node.resident()
    async with (
        Neighbour(lab) as neighbour,
        await Wire.meet(lab.inbound, lab.as_client()) as peer,
    ):
        # 4000 bytes go into the table once; each byte after that names them again: 64 KiB become 250 MiB.
        planted = peer.head(*connect(lab.authority_of_web), ("x-bomb", "b" * 3900))
        await peer.send(planted)
        assert await peer.status(planted.stream_id) == 200
        for _ in range(20):
            bomb = peer.head(*connect(lab.authority_of_web))
            bomb.data += b"\xbe" * 65_000
            await peer.send(bomb)
            assert await peer.status(bomb.stream_id) == 431
        grown = lab.node.resident() - before
        # The compression state is still the peer's: an honest request is understood.
        await peer.connect(lab.authority_of_web)
    assert grown < GROWTH, f"{grown / MIB:.1f} MiB stayed"
    neighbour.was_undisturbed()


async def test_too_many_fields_are_a_431_as_well(lab: Lab) -> None:
    async with await Wire.meet(lab.inbound, lab.as_client()) as peer:
        fields = [*connect(lab.authority_of_web), *((f"x-{i}", "") for i in range(500))]
        assert await peer.request(*fields) == 431
    await lab.assert_good_tunnels_pass()


async def test_streams_past_the_limit_are_refused_and_the_others_stay(lab: Lab) -> None:
    async with lab.application(), await Wire.meet(lab.inbound, lab.as_client()) as peer:
        heads = [head(peer, lab) for _ in range(230)]
        await peer.send(b"".join(frame.serialize() for frame in heads))
        answers: dict[int, Frame] = {}
        while len(answers) < len(heads):
            frame = await peer.until(lambda f: isinstance(f, (HeadersFrame, RstStreamFrame)))
            answers[frame.stream_id] = frame
            if isinstance(frame, HeadersFrame):
                peer.decoder.decode(frame.data)
        refused = {
            stream: frame.error_code
            for stream, frame in answers.items()
            if isinstance(frame, RstStreamFrame)
        }
        assert list(refused) == [frame.stream_id for frame in heads[200:]]
        assert set(refused.values()) == {REFUSED_STREAM}
        # One of the two hundred ends, and there is room for another one.
        await peer.send(RstStreamFrame(heads[0].stream_id, error_code=8))
        await peer.pong()
        stream = await peer.connect(lab.authority_of_web)
        await peer.send(DataFrame(stream, data=b"still here"))
        assert await peer.data(stream, 10) == b"still here"


async def test_data_past_the_window_ends_the_peer_that_sent_it(lab: Lab) -> None:
    before, lines = lab.node.resident(), len(lab.node.access)
    async with stalled_application(lab), await Wire.meet(lab.inbound, lab.as_client()) as peer:
        stream = await peer.connect(lab.authority_of_web)
        await pour(peer, raw_frame(DATA, 0, stream, bytes(16_384)) * (64 * MIB // 16_384))
        await peer.rest()
        line = await lab.logged(lines, message="connection failed", src_addr=peer.name)
        grown = lab.node.resident() - before
    cause = "http/2 peer misbehaved: data past the flow-control window (FLOW_CONTROL_ERROR)"
    assert line["error"] == cause
    assert grown < GROWTH, f"{grown / MIB:.1f} MiB stayed"
    await lab.assert_good_tunnels_pass()


async def test_who_goes_on_pouring_is_cut_off(lab: Lab) -> None:
    before, lines = lab.node.resident(), len(lab.node.access)
    async with (
        Neighbour(lab) as neighbour,
        await Wire.meet(lab.inbound, lab.as_client()) as peer,
    ):
        async with asyncio.timeout(DEADLINE):
            await pour(peer, endless_block(peer, lab) * 300)
        await peer.rest()
        line = await lab.logged(lines, message="connection failed", src_addr=peer.name)
    grown = lab.node.resident() - before
    assert line["error"] == "http/2 peer misbehaved: header block flood (ENHANCE_YOUR_CALM)"
    assert grown < GROWTH, f"{grown / MIB:.1f} MiB stayed"
    neighbour.was_undisturbed()


MALFORMED = {
    "no preface": (b"", None, r"not HTTP/2: no connection preface"),
    "SETTINGS on a stream": (raw_frame(SETTINGS, 0, 1), PROTOCOL_ERROR, "not allowed on stream 1"),
    "SETTINGS of 5 bytes": (raw_frame(SETTINGS, 0, 0, bytes(5)), FRAME_SIZE_ERROR, "frame of 5"),
    "SETTINGS ACK with content": (raw_frame(SETTINGS, 1, 0, bytes(6)), FRAME_SIZE_ERROR, "frame of 6"),
    "a window of 2^31": (
        raw_frame(SETTINGS, 0, 0, bytes.fromhex("000480000000")), FLOW_CONTROL_ERROR, "setting 0x0004",
    ),
    "a frame size of 1": (
        raw_frame(SETTINGS, 0, 0, bytes.fromhex("000500000001")), PROTOCOL_ERROR, "setting 0x0005",
    ),
    "PING of 7 bytes": (raw_frame(PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR, "frame of 7"),
    "PING on a stream": (raw_frame(PING, 0, 1, bytes(8)), PROTOCOL_ERROR, "not allowed on stream 1"),
    "GOAWAY on a stream": (raw_frame(GO_AWAY, 0, 1, bytes(8)), PROTOCOL_ERROR, "not allowed on"),
    "PUSH_PROMISE": (raw_frame(PUSH, 4, 1, b"\0\0\0\2\x82"), PROTOCOL_ERROR, "PUSH_PROMISE"),
    "DATA on an idle stream": (raw_frame(DATA, 0, 7, b"x"), PROTOCOL_ERROR, "idle stream 7"),
    "RST_STREAM of an idle stream": (raw_frame(RST_STREAM, 0, 7, bytes(4)), PROTOCOL_ERROR, "idle stream 7"),
    "HEADERS on an even stream": (raw_frame(HEADERS, 5, 2, b"\x82"), PROTOCOL_ERROR, "stream 2"),
    "HEADERS on stream 0": (raw_frame(HEADERS, 5, 0, b"\x82"), PROTOCOL_ERROR, "stream 0"),
    "a lone CONTINUATION": (raw_frame(CONTINUATION, 4, 1, b"\x82"), PROTOCOL_ERROR, "header block"),
    "a PING inside of a header block": (
        raw_frame(HEADERS, 0, 1, b"\x82") + raw_frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR, "interrupted",
    ),
    "HPACK index 0": (raw_frame(HEADERS, 5, 1, b"\x80"), COMPRESSION_ERROR, "."),
    "HPACK index out of the table": (raw_frame(HEADERS, 5, 1, b"\xff\x7f"), COMPRESSION_ERROR, "."),
    "an HPACK integer without end": (raw_frame(HEADERS, 5, 1, b"\xff" * 32), COMPRESSION_ERROR, "."),
    "an HPACK table of 1 MiB": (raw_frame(HEADERS, 5, 1, b"\x3f\xe1\xff\x3f"), COMPRESSION_ERROR, "."),
    "padding longer than the frame": (raw_frame(HEADERS, 0xD, 1, b"\xff\x82"), PROTOCOL_ERROR, "padding"),
    "WINDOW_UPDATE of zero": (raw_frame(WINDOW_UPDATE, 0, 0, bytes(4)), PROTOCOL_ERROR, "WINDOW_UPDATE"),
    "a window past 2^31": (
        raw_frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), FLOW_CONTROL_ERROR, "window overflow",
    ),
    "a frame larger than allowed": (raw_frame(DATA, 0, 1, length=2 * MIB), FRAME_SIZE_ERROR, "frame of 2097152"),
    "a header frame larger than allowed": (
        raw_frame(HEADERS, 5, 1, length=2 * MIB), FRAME_SIZE_ERROR, "frame of 2097152",
    ),
    "a settings frame of a MiB": (raw_frame(SETTINGS, 0, 0, bytes(6) * 170_000), ENHANCE_YOUR_CALM, "SETTINGS flood"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "case"), MALFORMED.items(), ids=MALFORMED)
async def test_a_broken_frame_ends_its_tunnel_with_the_code_and_the_cause(
    lab: Lab, name: str, case: tuple[bytes, int | None, str]
) -> None:
    frame, code, said = case
    lines, before = len(lab.node.access), await lab.refused("inbound", "http2")
    async with await Wire.dial(lab.inbound, lab.as_client()) as peer:
        if name == "no preface":
            await peer.send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
        else:
            await peer.greet(PREFACE)
            await peer.send(frame)
        end = await peer.end()
        line = await lab.logged(lines, message="connection failed", src_addr=peer.name)
    assert re.search(f"^http/2 peer misbehaved: .*{said}", line["error"]), line["error"]
    if code is not None:
        assert f"GoAway({code})" in end
    assert await lab.refused("inbound", "http2") == before + 1
    await lab.assert_good_tunnels_pass()


HEADS: dict[str, list[tuple[str | bytes, str | bytes]]] = {
    "CONNECT with a path": [*connect("{web}"), (":scheme", "http"), (":path", "/")],
    "extended CONNECT": [*connect("{web}"), (":protocol", "websocket")],
    "two authorities": [*connect("{web}"), (":authority", "{web}")],
    "a pseudo header behind others": [(":method", "CONNECT"), ("x", "y"), (":authority", "{web}")],
    "an unknown pseudo header": [*connect("{web}"), (":evil", "1")],
    "no method": [(":authority", "{web}")],
    "a name in capitals": [*connect("{web}"), ("X-Capital", "1")],
    "a connection header": [*connect("{web}"), ("connection", "close")],
    "a line end in a value": [*connect("{web}"), ("x", "a\r\nb: c")],
    "NUL in a value": [*connect("{web}"), ("x", b"a\0b")],
    "NUL in the authority": [(":method", "CONNECT"), (":authority", b"web\0.example:80")],
}


@pytest.mark.parametrize("fields", HEADS.values(), ids=HEADS)
async def test_a_malformed_request_is_reset_and_its_tunnel_stays(
    lab: Lab, fields: list[tuple[str | bytes, str | bytes]]
) -> None:
    async with lab.application() as guests, await Wire.meet(lab.inbound, lab.as_client()) as peer:
        request = peer.head(*[(n, lab.authority_of_web if v == "{web}" else v) for n, v in fields])
        await peer.send(request)
        answer = await peer.until(lambda f: f.stream_id == request.stream_id)
        assert isinstance(answer, RstStreamFrame)
        assert answer.error_code == PROTOCOL_ERROR
        assert guests == []
        await peer.connect(lab.authority_of_web)


BAD_FIELDS: dict[str, tuple[str, bytes]] = {
    "a traceparent of zeros": ("traceparent", b"0" * 55),
    "a traceparent that is none": ("traceparent", b"00-" + b"z" * 32 + b"-" + b"y" * 16 + b"-01"),
    "a traceparent of bytes": ("traceparent", bytes(range(128, 183))),
    "a baggage of 8 KiB": ("baggage", b"k8s.namespace.name=" + b"n" * 8192),
    "a baggage of 500 members": ("baggage", b",".join(b"k%d=v" % i for i in range(500))),
    "a baggage that is none": ("baggage", b"=,==,%,%zz,;;=,\xff\xfe"),
    "an unbalanced forwarded": ("forwarded", b'for="1.2.3.4;host="a;by=;;,,=";host=b'),
    "a forwarded of bytes": ("forwarded", bytes(range(128, 256))),
    "a huge network": ("x-forwarded-network", b"n" * 32_000),
    "no network": ("x-forwarded-network", b""),
}


@pytest.mark.parametrize(("name", "value"), BAD_FIELDS.values(), ids=BAD_FIELDS)
async def test_a_field_that_makes_no_sense_does_not_stop_the_connection(
    lab: Lab, name: str, value: bytes
) -> None:
    async with lab.application(), await Wire.meet(lab.inbound, lab.as_client()) as peer:
        assert await peer.request(*connect(lab.authority_of_web), (name, value)) == 200


@contextlib.asynccontextmanager
async def stalled_application(lab: Lab) -> AsyncIterator[None]:
    """It accepts and reads nothing."""
    over = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await over.wait()

    async with listening((lab.address, PORT), stall):
        try:
            yield
        finally:
            over.set()


async def pour(peer: Wire, flood: bytes) -> None:
    """All of it, or as much as the other side takes before it hangs up."""
    with contextlib.suppress(Ended, OSError):
        for start in range(0, len(flood), 65_536):
            if peer.writer.is_closing():
                break
            await peer.send(flood[start : start + 65_536])
