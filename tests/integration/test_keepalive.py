"""Every socket that carries traffic probes a silent peer: accepted or dialled, SOCKS5 and tunnels included.

spec/dataplane.md §1.1, §20.2 item 10. Seen from outside: the kernel shows which timer a socket has running.
"""

from __future__ import annotations

import socket
import struct
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.apps import Application, direct
from tests.support.nodes import HBONE_PORT, Mesh, Node, eventually

if TYPE_CHECKING:
    from tests.support.nodes import Address

NETWORK = "127.11"
PORT = 8080
ESTABLISHED, KEEPALIVE = "01", "02"


def encoded(address: Address) -> str:
    """As /proc/net/tcp writes it."""
    host = struct.unpack("=I", socket.inet_aton(address[0]))[0]
    return f"{host:08X}:{address[1]:04X}"


def timers(*, local: Address | None = None, remote: Address | None = None) -> list[str]:
    """The running timers of established sockets with these ends."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [
        row[5].partition(":")[0]
        for row in rows
        if row[3] == ESTABLISHED
        and (local is None or row[1] == encoded(local))
        and (remote is None or row[2] == encoded(remote))
    ]


def probed(**ends: Address) -> bool:
    """Whether keepalive is what the one socket with these ends waits for."""
    return timers(**ends) == [KEEPALIVE]


def test_accepted_and_dialled_sockets_probe_a_silent_peer(tmp_path: Path) -> None:
    with Mesh(tmp_path, network=NETWORK) as mesh:
        for name in ("client", "server"):
            mesh.workload(name)
        plain = mesh.workload("plain", protocol="TCP")
        targets = [f"{mesh.address_of('server')}:{PORT}", f"{plain}:{PORT}"]
        with (
            Node(mesh, "server") as server,
            Node(mesh, "client", forwards=targets, socks5=True) as client,
            Application.listen(server.address, PORT) as behind,
            Application.listen(plain, PORT) as outside,
        ):
            through = behind.pair(lambda: direct(client.forwards[targets[0]]))
            past = outside.pair(lambda: direct(client.forwards[targets[1]]))
            negotiating = direct(client.socks5)
            tunnel = (server.address, HBONE_PORT)
            sockets: list[dict[str, Address]] = [
                {"local": client.socks5},
                {"local": client.forwards[targets[0]]},
                {"local": client.forwards[targets[1]]},
                {"local": tunnel},
                {"remote": tunnel},
                {"remote": (plain, PORT)},
                {"remote": (server.address, PORT)},
            ]
            for ends in sockets:
                # Another timer runs while something has not been acknowledged yet.
                eventually(partial(probed, **ends), f"probed: {ends}")
            negotiating.close()
            for end in (*through, *past):
                end.closes()
