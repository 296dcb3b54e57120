"""Messages out of pieces, however they are cut."""

from __future__ import annotations

import asyncio
import random

import pytest

from ztunnel.errors import EndpointError
from ztunnel.wire.inbox import Inbox

pytestmark = pytest.mark.asyncio

MOST = 1024 * 1024
# What a frame costs beside its bytes, as if it were padded.
PADDING = 3


def framed(*messages: bytes) -> bytes:
    return b"".join(b"\0" + len(each).to_bytes(4, "big") + each for each in messages)


class Fed:
    """An inbox, and what it gave back to the windows."""

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.inbox = Inbox(self.opened.append, most=MOST, server="istiod:15012")

    def feed(self, *pieces: bytes) -> int:
        """These pieces come; gives what they cost."""
        for piece in pieces:
            self.inbox.add(piece, len(piece) + PADDING)
        return sum(len(piece) + PADDING for piece in pieces)

    def taken(self) -> list[bytes]:
        return [self.inbox.take() for _ in range(self.inbox.ready)]


async def test_many_messages_of_one_piece_open_the_windows_once() -> None:
    fed = Fed()
    cost = fed.feed(framed(b"a", b"", b"ccc"), framed(b"d"))
    assert fed.opened == []
    await fed.inbox.more()
    assert fed.taken() == [b"a", b"", b"ccc", b"d"]
    assert fed.opened == [cost]
    assert fed.inbox.idle


@pytest.mark.parametrize("seed", range(50))
async def test_a_message_is_the_same_however_it_is_cut(seed: int) -> None:
    luck, fed = random.Random(seed), Fed()
    messages = [luck.randbytes(luck.choice((0, 1, 4, 5, 300))) for _ in range(20)]
    rest, taken, cost = framed(*messages), list[bytes](), 0
    while rest:
        size = luck.choice((1, 2, 5, 7, 400))
        piece, rest = rest[:size], rest[size:]
        cost += fed.feed(piece)
        if luck.random() < 0.5 or not rest:
            await fed.inbox.more()
            taken += fed.taken()
    assert taken == messages
    assert sum(fed.opened) == cost
    assert fed.inbox.idle


async def test_whoever_waits_is_told_of_a_piece_and_of_the_end() -> None:
    fed = Fed()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(fed.inbox.more())
        await asyncio.sleep(0)
        assert not waiting.done()
        fed.feed(framed(b"a"))
    assert fed.taken() == [b"a"]
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(fed.inbox.more())
        await asyncio.sleep(0)
        fed.inbox.eof()
    assert fed.inbox.ended


async def test_what_has_begun_says_how_much_it_lacks() -> None:
    fed = Fed()
    fed.feed(framed(b"a" * 100)[:35])
    await fed.inbox.more()
    assert (fed.inbox.ready, fed.inbox.missing, fed.inbox.torn) == (0, 70, True)
    fed.inbox.eof()
    assert fed.inbox.ended
    assert not fed.inbox.idle


async def test_an_end_comes_after_the_messages_before_it() -> None:
    fed = Fed()
    fed.feed(framed(b"a"))
    fed.inbox.eof()
    ends = [fed.inbox.ended]
    await fed.inbox.more()
    ends.append(fed.inbox.ended)
    assert fed.taken() == [b"a"]
    ends.append(fed.inbox.ended)
    assert ends == [False, False, True]
    assert not fed.inbox.torn


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"\1\0\0\0\1", "istiod:15012 compresses, which nobody asked for"),
        (
            b"\0" + (MOST + 1).to_bytes(4, "big"),
            "istiod:15012 sends a message of more than 1 MiB: 1048577 bytes",
        ),
    ],
)
async def test_a_message_that_is_not_to_be_taken_is_named_after_those_before_it(
    head: bytes, reason: str
) -> None:
    fed = Fed()
    cost = fed.feed(framed(b"good") + head, b"what follows means nothing")
    await fed.inbox.more()
    assert fed.taken() == [b"good"]
    fed.inbox.eof()
    for _ in range(2):
        assert not fed.inbox.ended
        with pytest.raises(EndpointError) as caught:
            await fed.inbox.more()
        assert str(caught.value) == reason
    assert sum(fed.opened) == cost


async def test_what_nobody_took_is_said_once_of_a_stream_that_is_given_up() -> None:
    fed = Fed()
    cost = fed.feed(b"abc", b"de")
    assert fed.inbox.unacked_size() == cost
    assert fed.inbox.unacked_size() == 0
    assert fed.opened == []
