"""What is said of a server that no stream could be opened to, and how long a message may take that has begun."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from pathlib import Path

import pytest

from ztunnel.endpoint import Endpoint, RootFile, SystemRoots, TokenFile
from ztunnel.errors import EndpointError, EndpointUnreachable, StreamLost
from ztunnel.wire import duplex
from ztunnel.wire.duplex import PIECE, Duplex
from ztunnel.wire.gathering import Gathering
from ztunnel.wire.inbox import Inbox

pytestmark = pytest.mark.asyncio

ENDPOINT = Endpoint(host="127.0.0.1", port=1, roots=SystemRoots(), cluster_id="c")


async def trouble(endpoint: Endpoint) -> EndpointError:
    with pytest.raises(EndpointError) as caught:
        async with Duplex(endpoint, "/a.b/C", purpose="XDS"):
            pass
    return caught.value


async def test_a_server_that_refuses_is_named() -> None:
    error = await trouble(ENDPOINT)
    assert isinstance(error, EndpointUnreachable)
    assert str(error) == "no connection to 127.0.0.1:1: Connection refused"


async def test_a_name_that_cannot_be_resolved_leads_to_the_name_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no(*arguments: object, **more: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no)
    error = await trouble(dataclasses.replace(ENDPOINT, host="istiod.istio-system.svc"))
    assert isinstance(error, EndpointUnreachable)
    assert str(error) == (
        "no connection to istiod.istio-system.svc:1: Temporary failure in name resolution; "
        "is the DNS server reachable, and the name right?"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"roots": RootFile(Path("/no/roots"))}, "roots cannot be read"),
        ({"token": TokenFile(Path("/no/token"))}, "the token cannot be read"),
    ],
)
async def test_what_is_wrong_on_our_side_is_not_the_servers_fault(
    change: dict[str, object], message: str
) -> None:
    error = await trouble(dataclasses.replace(ENDPOINT, **change))  # type: ignore[arg-type]
    assert not isinstance(error, EndpointUnreachable)
    assert message in str(error)


class Filling:
    """The wait for a message, of a stream whose pieces come by hand."""

    def __init__(self) -> None:
        self.inbox = Inbox(lambda size: None, most=64 * PIECE, server="istiod:15012")
        self._near, self._far = socket.socketpair()
        self._door = Gathering(self._near, asyncio.get_running_loop())

    async def fill(self, *pieces: bytes) -> None:
        """Waits for a message, while these pieces come one after the other."""
        stream = Duplex(ENDPOINT, "/a.b/C", purpose="XDS")
        try:
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                group.create_task(stream._fill(self.inbox, self._door))
                for piece in pieces:
                    await asyncio.sleep(0)
                    self.inbox.add(piece, len(piece))
        finally:
            self._door.open()
            self._near.close()
            self._far.close()


def head(size: int) -> bytes:
    return b"\0" + size.to_bytes(4, "big")


async def test_a_message_does_not_wait_for_the_one_whose_first_bytes_came_with_its_last() -> None:
    filling = Filling()
    first = head(3 * PIECE) + b"a" * (3 * PIECE)
    await filling.fill(first[:-10], first[-10:] + head(9 * PIECE) + b"b")
    assert filling.inbox.take() == first[5:]
    assert filling.inbox.missing == 9 * PIECE - 1


async def test_a_message_that_stops_within_its_length_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(duplex, "STALL", 0.1)
    with pytest.raises(ExceptionGroup) as caught:
        await Filling().fill(head(1)[:3])
    (lost,) = caught.value.exceptions
    assert isinstance(lost, StreamLost)
    assert str(lost) == "a message stopped for 0.1 s before its end"


async def test_a_message_has_all_of_its_time_from_its_length_on() -> None:
    filling = Filling()
    size = 3 * PIECE
    await filling.fill(
        head(size)[:3], head(size)[3:] + b"a", *[b"a" * PIECE] * 2, b"a" * (PIECE - 1)
    )
    assert filling.inbox.take() == b"a" * size
