"""Requests for a workload whose application takes them itself, such as a waypoint behind the node.

A real node, scripted peers (tests/support/lab.py), and an application that reads its PROXY header with a parser of its
own. spec/dataplane.md §3.4, §3.7, §3.8; upstream's rows: sandwich_waypoint_plain, sandwich_waypoint_proxy_protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hyperframe.frame import DataFrame

from tests.support.hbone_peer import Wire, connect, listening
from tests.support.lab import CLIENT, DEADLINE, Lab, round_trip
from tests.support.proxy_header import ProxyHeader, read_header

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio

# Where the application listens, on whatever address; below the range that the kernel gives away by itself.
TUNNEL_PORT = 15088


class Guest(NamedTuple):
    """A connection that the application took."""

    peer: str
    header: ProxyHeader | None


class Application:
    """An echo behind a header, or without one."""

    def __init__(self, *, takes_header: bool) -> None:
        self._takes_header = takes_header
        self.guests: asyncio.Queue[Guest] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        header = await read_header(reader) if self._takes_header else None
        self.guests.put_nowait(Guest(writer.get_extra_info("peername")[0], header))
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def guest(self) -> Guest:
        """The next one."""
        async with asyncio.timeout(DEADLINE):
            return await self.guests.get()


@contextlib.asynccontextmanager
async def application(address: str, *, takes_header: bool = True) -> AsyncIterator[Application]:
    """Listens there."""
    one = Application(takes_header=takes_header)
    async with listening((address, TUNNEL_PORT), one.serve):
        yield one


def tunnelled(folder: Path, network: str, protocol: str, **node: Any) -> Lab:
    """A node for `web`, which has an application tunnel; not running yet."""
    lab = Lab(folder, network=network, **node)
    lab.mesh.edit("web")["applicationTunnel"] = {"protocol": protocol, "port": TUNNEL_PORT}
    nowhere = lab.mesh.service("nowhere", {80: 8080}, "web")
    lab.mesh.edit_service(nowhere)["vips"] = []
    return lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("application-tunnel")
    with tunnelled(folder, "127.3", "PROXY") as lab:
        yield lab


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("{web}:8080", "{web}:8080"),
        ("{web}:443", "{web}:443"),
        # Somebody else's address: behind an application tunnel the application decides.
        ("10.9.9.9:443", "10.9.9.9:443"),
        # The port that the client meant, not the one that the service has in front of the workload.
        ("{host}:80", "{vip}:80"),
        # Two families cannot be told together.
        ("[2001:db8::1]:80", None),
    ],
)
async def test_the_application_is_told_who_asked_for_what_before_anything_else(
    lab: Lab, asked: str, told: str | None
) -> None:
    names = {"web": lab.address, "host": lab.hostname, "vip": lab.mesh.vip(lab.hostname)}
    lines = len(lab.node.access)
    async with (
        application("127.0.0.1") as app,
        await Wire.meet(lab.inbound, lab.as_client()) as wire,
    ):
        head = wire.head(*connect(asked.format(**names)))
        # Bytes that the peer does not wait with come behind the header all the same.
        await wire.send(head, DataFrame(head.stream_id, data=b"at once"))
        assert await wire.status(head.stream_id) == 200
        assert await wire.data(head.stream_id, 7) == b"at once"
        guest = await app.guest()
        assert guest.peer == "127.0.0.1"
        assert guest.header == ProxyHeader(
            source=wire.name if told else None,
            destination=told.format(**names) if told else None,
            identity=CLIENT,
        )
        await round_trip(wire, head.stream_id)
        await wire.send(DataFrame(head.stream_id, flags=["END_STREAM"]))
        line = await lab.logged(lines, message="connection complete", direction="inbound")
    # The header is ours: neither side has sent it.
    assert line["bytes_recv"] == line["bytes_sent"] == 7 + len(b"are you there?")
    assert line["dst.addr"] == f"{lab.address}:15008"
    assert line["dst.hbone_addr"] == asked.format(**names)
    assert "error" not in line


async def test_every_stream_of_a_tunnel_has_its_own_header(lab: Lab) -> None:
    async with (
        application("127.0.0.1") as app,
        await Wire.meet(lab.inbound, lab.as_client()) as wire,
    ):
        for port in range(8000, 8010):
            await wire.connect(f"{lab.address}:{port}")
            header = (await app.guest()).header
            assert header is not None
            assert header.destination == f"{lab.address}:{port}"


async def test_an_application_that_does_not_listen_is_a_503(lab: Lab) -> None:
    lines = len(lab.node.access)
    async with await Wire.meet(lab.inbound, lab.as_client()) as wire:
        assert await wire.request(*connect(lab.authority_of_web)) == 503
    # An earlier test's connection may end meanwhile, and has a line too.
    failed = re.compile("^connection failed: ")
    await lab.logged(lines, message="connection complete", direction="inbound", error=failed)


async def test_a_service_without_an_address_cannot_be_told_and_is_a_503(lab: Lab) -> None:
    lines, host = len(lab.node.access), "nowhere.default.svc.cluster.local"
    async with (
        application("127.0.0.1") as app,
        await Wire.meet(lab.inbound, lab.as_client()) as wire,
    ):
        assert await wire.request(*connect(f"{host}:80")) == 503
        assert app.guests.empty()
    line = await lab.logged(lines, message="connection failed", direction="inbound")
    assert line["error"] == f"requested service {host} found, but has no IP addresses"


async def test_policy_is_asked_about_the_port_of_the_application(lab: Lab) -> None:
    lines = len(lab.node.log)
    lab.mesh.policies[:] = [
        {
            "name": "ports",
            "namespace": "default",
            "scope": "Namespace",
            "action": "Allow",
            "rules": [
                [[{"destinationPorts": [TUNNEL_PORT], "destinationIps": [f"{lab.address}/32"]}]]
            ],
        }
    ]
    try:
        lab.mesh.write()
        await asyncio.to_thread(lab.node.log.wait_for, "mesh applied", after=lines)
        async with (
            application("127.0.0.1"),
            await Wire.meet(lab.inbound, lab.as_client()) as wire,
        ):
            await round_trip(wire, await wire.connect(lab.authority_of_web))
    finally:
        lines = len(lab.node.log)
        lab.mesh.policies[:] = []
        lab.mesh.write()
        await asyncio.to_thread(lab.node.log.wait_for, "mesh applied", after=lines)


async def test_a_header_goes_to_the_workloads_own_address_where_that_is_asked_for(
    tmp_path: Path,
) -> None:
    with tunnelled(tmp_path, "127.3", "PROXY", localhostAppTunnel=False) as lab:
        async with (
            application(lab.address) as app,
            await Wire.meet(lab.inbound, lab.as_client()) as wire,
        ):
            await round_trip(wire, await wire.connect("10.9.9.9:443"))
            header = (await app.guest()).header
        assert header == ProxyHeader(source=wire.name, destination="10.9.9.9:443", identity=CLIENT)


async def test_without_a_header_the_bytes_are_the_peers_alone(tmp_path: Path) -> None:
    with tunnelled(tmp_path, "127.3", "NONE") as lab:
        async with (
            application(lab.address, takes_header=False) as app,
            await Wire.meet(lab.inbound, lab.as_client()) as wire,
        ):
            await round_trip(wire, await wire.connect("10.9.9.9:443"))
            assert (await app.guest()).header is None
