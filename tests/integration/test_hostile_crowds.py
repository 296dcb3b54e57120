"""Many at once: hundreds who stop half-way, thousands of tiny frames.

Each is held for its deadline; descriptors and memory come back; a neighbour does round trips and new tunnels all the while
(spec/reliability.md T01, T04, T09). Single offenders are in test_hostile_peers.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import pytest
from hyperframe.frame import DataFrame, WindowUpdateFrame

from tests.support.certs import client_hello
from tests.support.hbone_peer import Ended, Wire, connect, listening, raw_frame
from tests.support.lab import DEADLINE, PORT, Lab, Neighbour, round_trip
from tests.support.nodes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio

NETWORK = "127.2"
MIB = 1024 * 1024
# Long enough for this file to bring its four hundred clients into position.
HELD = 3.0
# What slow cores may add to that; a node that forgets one of them holds it for ever.
SLACK = 15.0
# Handshakes at once from one address, for each worker.
SHARE = 512


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    deadlines = {"handshake": f"{HELD}s", "preface": f"{HELD}s"}
    with Lab(tmp_path_factory.mktemp("crowd"), network=NETWORK, deadlines=deadlines) as lab:
        yield lab


async def test_four_hundred_who_stop_half_way_are_all_gone_after_the_deadline(lab: Lab) -> None:
    await lab.assert_good_tunnels_pass()
    memory, sockets = lab.node.resident(), lab.node.descriptors()["socket"]
    async with Neighbour(lab) as neighbour:
        began = time.monotonic()
        hello = client_hello()
        beginnings = [b"", hello[: len(hello) // 2], hello] * 100
        crowd = await asyncio.gather(*(begin(lab, words) for words in beginnings))
        context = lab.as_client()
        for _ in range(10):
            dials = (Wire.dial(lab.inbound, context) for _ in range(10))
            crowd += await asyncio.gather(*dials)
        arrived = time.monotonic() - began
        held_memory = lab.node.resident() - memory
        held_sockets = lab.node.descriptors()["socket"] - sockets
        ends = await asyncio.gather(*(held(wire, began) for wire in crowd))
    figures = (
        f"{len(crowd)} arrived within {arrived:.2f} s, were held {min(ends):.2f} to {max(ends):.2f} s, "
        f"with {held_sockets} sockets and {held_memory / MIB:.1f} MiB; "
        f"{neighbour}"
    )
    # All of them at once, unless they have come so slowly that the first had been sent away before the last was there.
    assert held_sockets >= 400 or arrived > HELD * 0.9, figures
    assert max(ends) < arrived + HELD + SLACK, figures
    assert min(ends) > HELD * 0.9, figures
    assert held_memory < 24 * MIB, figures
    neighbour.was_undisturbed()
    refused = await lab.refused("inbound", "handshake_timeout")
    assert (refused, await lab.refused("inbound", "preface_timeout")) == (300, 100)
    await asyncio.to_thread(
        eventually,
        lambda: lab.node.descriptors()["socket"] <= sockets,
        "all sockets are closed",
    )
    assert lab.node.resident() - memory < 16 * MIB
    await lab.assert_good_tunnels_pass()


async def test_who_says_nothing_at_the_door_takes_a_share_of_it_and_no_more(tmp_path: Path) -> None:
    with Lab(tmp_path, network=NETWORK, workers=1, deadlines={"handshake": "60s"}) as lab:
        source, lines = lab.mesh.address(), len(lab.node.access)

        async def knock() -> Wire:
            local = (source, 0)
            return Wire(*await asyncio.open_connection(*lab.inbound, local_addr=local))

        crowd = [await knock() for _ in range(SHARE)]
        async with await knock() as one_too_many:
            assert await one_too_many.rest() == b""
        said = f"too many handshakes from this address on this worker: {SHARE}"
        await lab.logged(lines, message="connection failed", error=said)
        assert await lab.refused("inbound", "overload") == 1
        await lab.assert_good_tunnels_pass()
        for wire in crowd:
            await wire.close()
        async with asyncio.timeout(DEADLINE), lab.application():
            while True:
                try:
                    wire = await Wire.meet(lab.inbound, lab.as_client(), source=source)
                except Ended:
                    continue  # not all of them are gone yet
                break
            async with wire:
                await round_trip(wire, await wire.connect(lab.authority_of_web))


async def test_two_thousand_who_speak_no_tls_leave_nothing_behind(lab: Lab) -> None:
    await lab.assert_good_tunnels_pass()
    memory, sockets = lab.node.resident(), lab.node.descriptors()["socket"]
    before = await lab.refused("inbound", "not_tls")
    async with Neighbour(lab) as neighbour:
        for _ in range(40):
            await asyncio.gather(*(turned_away(lab) for _ in range(50)))
    assert await lab.refused("inbound", "not_tls") == before + 2_000
    await asyncio.to_thread(
        eventually,
        lambda: lab.node.descriptors()["socket"] <= sockets,
        "all sockets are closed",
    )
    grown = lab.node.resident() - memory
    assert grown < 8 * MIB, f"{grown / MIB:.1f} MiB stayed"
    neighbour.was_undisturbed()


async def test_thousands_of_one_byte_frames_toward_a_stalled_application_do_not_end_the_tunnel(
    lab: Lab,
) -> None:
    words = bytes(i % 251 for i in range(50_000))
    heard, resume = bytearray(), asyncio.Event()

    async def late_reader(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await resume.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        while len(heard) < len(filler) + len(words) and (data := await reader.read(65536)):
            heard.extend(data)
        writer.write(b"got it all")
        await writer.drain()
        await reader.read()

    memory = lab.node.resident()
    filler = b""
    async with (
        listening((lab.address, PORT), late_reader),
        await Wire.meet(lab.inbound, lab.as_client()) as peer,
    ):
        stream = await peer.connect(lab.authority_of_web)
        # First fill what the kernel takes, so that the node has to hold the rest itself.
        filler = await fill(peer, stream)
        frames = b"".join(raw_frame(0, 0, stream, words[i : i + 1]) for i in range(len(words)))
        for start in range(0, len(frames), 50_000):
            await peer.send(frames[start : start + 50_000])
        await peer.pong()
        held = lab.node.resident() - memory
        resume.set()
        assert await peer.data(stream, 10) == b"got it all"
    assert bytes(heard[len(filler) :]) == words
    assert held < 24 * MIB, f"{held / MIB:.1f} MiB for {len(words)} bytes in as many frames"
    await lab.assert_good_tunnels_pass()


async def test_eighty_streams_that_nobody_reads_hold_one_connection_window(lab: Lab) -> None:
    """Each of them may send 256 KiB and more, all together no more than the 16 MiB of the connection."""
    await lab.assert_good_tunnels_pass()
    memory, over = lab.node.resident(), asyncio.Event()

    async def reads_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await over.wait()

    async with listening((lab.address, PORT), reads_nothing):
        async with await Wire.meet(lab.inbound, lab.as_client()) as peer:
            streams = [await peer.connect(lab.authority_of_web) for _ in range(80)]
            credit = Credit(peer, streams)
            while (room := await credit.room()) is not None:
                stream, size = room
                await peer.send(DataFrame(stream, data=bytes(size)))
            held = lab.node.resident() - memory
            peer.writer.transport.abort()
        over.set()
    assert credit.sent > 16 * MIB
    assert held < 24 * MIB, f"{held / MIB:.1f} MiB of {credit.sent / MIB:.1f} MiB sent"
    await lab.assert_good_tunnels_pass()


async def test_a_peer_that_reads_nothing_makes_the_node_hold_next_to_nothing(lab: Lab) -> None:
    await lab.assert_good_tunnels_pass()
    memory, poured, progress = lab.node.resident(), [0], asyncio.Event()

    async def pours(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                writer.write(bytes(65_536))
                await writer.drain()
                poured[0] += 65_536
                progress.set()

    async with (
        listening((lab.address, PORT), pours),
        await Wire.meet(lab.inbound, lab.as_client()) as peer,
    ):
        streams = [peer.head(*connect(lab.authority_of_web)) for _ in range(100)]
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await peer.send(*streams)
        # Until nothing moves any more: every buffer on the way is full.
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(1):
                    await progress.wait()
                progress.clear()
        held = lab.node.resident() - memory
        peer.writer.transport.abort()
    assert poured[0] > 0
    assert held < 16 * MIB, f"{held / MIB:.1f} MiB for {poured[0] / MIB:.1f} MiB poured"
    await lab.assert_good_tunnels_pass()


class Credit:
    """What may be sent on each of many streams, and on the connection; kept from the node's WINDOW_UPDATEs."""

    def __init__(self, peer: Wire, streams: list[int]) -> None:
        self._peer = peer
        self._streams = dict.fromkeys(streams, 262_144)
        self._connection = 16 * MIB
        self.sent = 0

    async def room(self) -> tuple[int, int] | None:
        """A stream and how much it may send now; None when no credit comes any more."""
        while True:
            stream, window = max(self._streams.items(), key=lambda one: one[1])
            size = min(window, self._connection, 16_384)
            if size > 0:
                self._streams[stream] -= size
                self._connection -= size
                self.sent += size
                return stream, size
            try:
                # A node that has something left to say says it sooner, also beside others.
                async with asyncio.timeout(2):
                    frame = await self._peer.until(lambda f: isinstance(f, WindowUpdateFrame))
            except TimeoutError:
                return None
            assert isinstance(frame, WindowUpdateFrame)
            if frame.stream_id == 0:
                self._connection += frame.window_increment
            elif frame.stream_id in self._streams:
                self._streams[frame.stream_id] += frame.window_increment


async def fill(peer: Wire, stream: int) -> bytes:
    """Sends until no credit comes back for what was sent: the application's kernel takes no more."""
    window, sent = 262_144, 0
    piece = bytes(8192)
    while True:
        while window - len(piece) > 100_000:  # room for the tiny frames behind it
            await peer.send(DataFrame(stream, data=piece))
            window -= len(piece)
            sent += len(piece)
        try:
            async with asyncio.timeout(0.5):
                update = await peer.until(
                    lambda f: isinstance(f, WindowUpdateFrame) and f.stream_id == stream
                )
        except TimeoutError:
            return bytes(sent)
        window += getattr(update, "window_increment", 0)


async def begin(lab: Lab, words: bytes) -> Wire:
    wire = await Wire.bare(lab.inbound)
    await wire.send(words)
    return wire


async def held(wire: Wire, since: float) -> float:
    await wire.rest()
    ended = time.monotonic() - since
    await wire.close()
    return ended


async def turned_away(lab: Lab) -> None:
    async with await Wire.bare(lab.inbound) as wire:
        with contextlib.suppress(OSError):
            await wire.send(b"GET / HTTP/1.1\r\n\r\n")
        await wire.rest()
