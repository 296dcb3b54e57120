"""The soak's applications notice what they should, without nodes; and with nodes, a soak of a few seconds ends well.

The long one is `make soak`.
"""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench.soak.__main__ import main
from bench.soak.ends import End, TooEarly, Wrong, steady, torn
from bench.soak.script import Flow, Order, Rest, Script

if TYPE_CHECKING:
    from pathlib import Path

SMALL = Flow(start=5, size=300_000, stalls=(Rest(after=1000, seconds=0.01),))


@pytest.mark.parametrize("order", Order)
def test_two_ends_without_anything_between_play_each_order(order: Order) -> None:
    script = Script(
        number=1, order=order, up=SMALL, down=replace(SMALL, size=70_000), turns=7, cut=9
    )

    async def story() -> None:
        client, server = _pair()
        play = torn if script.torn else steady
        await asyncio.gather(
            play(End(client), script, client=True), play(End(server), script, client=False)
        )
        client.close()
        server.close()

    asyncio.run(story())


def test_one_changed_byte_is_noticed() -> None:
    data = bytearray(SMALL.part(0, SMALL.size))
    data[200_000] ^= 1
    with pytest.raises(Wrong, match="other bytes than were sent"):
        asyncio.run(_hears(bytes(data)))


def test_one_missing_byte_is_noticed() -> None:
    with pytest.raises(TooEarly, match="FIN after 299999 of 300000"):
        asyncio.run(_hears(SMALL.part(0, SMALL.size - 1)))


def test_one_byte_too_many_is_noticed() -> None:
    with pytest.raises(Wrong, match="300001 bytes, 300000 were sent"):
        asyncio.run(_hears(SMALL.part(0, SMALL.size + 1)))


def test_a_fin_in_place_of_a_reset_is_noticed() -> None:
    script = Script(number=1, order=Order.CLIENT_RESETS, up=SMALL, down=SMALL)

    async def story() -> None:
        client, server = _pair()
        with client, server:
            await asyncio.gather(
                torn(End(server), script, client=False), _says_and_finishes(client, SMALL)
            )

    with pytest.raises(TooEarly):
        asyncio.run(story())


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_short_soak_ends_with_everything_equal(tmp_path: Path) -> None:
    report = tmp_path / "soak.json"
    words = ["--minutes", "0.1", "--workers", "64", "--seed", "5", "--leaf-lifetime", "5"]
    main([*words, "--json", str(report)])
    found = json.loads(report.read_text())
    # How flat memory is cannot be told in seconds.
    assert [fault for fault in found["faults"] if "last quarter" not in fault] == []
    assert all(tally["connections"] > 0 for tally in found["tallies"])
    assert found["certificates"] > 4, "rotation was never seen"


def _pair() -> tuple[socket.socket, socket.socket]:
    """Two ends on one machine, TCP: a local pair knows no RST."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    for end in (client, server):
        end.setblocking(False)
    return client, server


async def _hears(data: bytes) -> None:
    """One end says these bytes where the flow's were expected."""
    client, server = _pair()
    with client, server:

        async def says() -> None:
            await asyncio.get_running_loop().sock_sendall(client, data)
            client.shutdown(socket.SHUT_WR)

        await asyncio.gather(says(), End(server).hears(SMALL, 0))


async def _says_and_finishes(connection: socket.socket, flow: Flow) -> None:
    end = End(connection)
    await end.says(flow, 0, 100)
    end.finishes()
    # Reads all, so that closing is no reset.
    while await asyncio.get_running_loop().sock_recv(connection, 65536):
        pass
