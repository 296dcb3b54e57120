"""A tap that touches nothing: listens to a device, counts TCP payload by port, looks for a text in it. Needs root.

    python -m ztunnel.demo.sniffer HEX-TEXT DEVICE ADDRESS:PORT …

Prints `ready`, and a JSON array for each line on its standard input: what went to and from each address, in
their order, as `tap.py` says it; then what went anywhere else. Ends with its input.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
from dataclasses import dataclass, field

ETH_P_IP = 0x0800
# Only a socket for all protocols sees what goes out as well.
ETH_P_ALL = 0x0003
ETHERNET_HEADER = 14
# linux/if_packet.h
SOL_PACKET, PACKET_STATISTICS = 263, 6
# asm-generic/socket.h; Python has no name for it.
SO_RCVBUFFORCE = 33
# What may wait while we look: some 1,000 packets of the size that a veth carries (64 KiB).
WAITING_ROOM = 64 * 1024 * 1024
PACKET = 128 * 1024
SYN, ACK = 0x02, 0x10


@dataclass(slots=True)
class Port:
    """What was seen of one service."""

    connections: int = 0
    up: int = 0
    down: int = 0
    found: int = 0
    first: bytes = b""
    # The end of each flow's last packet: the text may lie across two of them.
    tails: dict[bytes, bytes] = field(default_factory=dict)

    def see(self, flow: bytes, flags: int, payload: bytes, text: bytes, *, up: bool) -> None:
        """One packet."""
        self.connections += flags & (SYN | ACK) == SYN
        if not payload:
            return
        self.first = self.first or payload[:8]
        if up:
            self.up += len(payload)
        else:
            self.down += len(payload)
        joined = self.tails.get(flow, b"") + payload
        self.found += joined.count(text)
        self.tails[flow] = joined[1 - len(text) :]

    def report(self) -> dict[str, object]:
        """As `tap.py` says it."""
        return {
            "connections": self.connections,
            "up": self.up,
            "down": self.down,
            "found": self.found,
            "first": self.first.hex(),
        }


class Sniffer:
    """All packets of a device."""

    def __init__(self, device: str, addresses: list[str], text: bytes) -> None:
        self._text = text
        self._ports = {_key(address): Port() for address in addresses}
        self._others = Port()
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, WAITING_ROOM)
        self.socket.bind((device, ETH_P_ALL))
        self.socket.setblocking(False)

    def take_all(self) -> None:
        """Every packet that waits."""
        while True:
            try:
                packet = self.socket.recv(PACKET)
            except BlockingIOError:
                return
            self._take(packet)

    def report(self) -> list[dict[str, object]]:
        """Of each port, then of all others. A packet that was not seen would make the proof worthless."""
        _, lost = struct.unpack("II", self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        if lost:
            raise SystemExit(f"{lost} packets came faster than they could be looked at")
        return [port.report() for port in (*self._ports.values(), self._others)]

    def _take(self, packet: bytes) -> None:
        ip = packet[ETHERNET_HEADER:]
        if packet[12:ETHERNET_HEADER] != ETH_P_IP.to_bytes(2, "big") or len(ip) < 40:
            return
        if ip[9] != socket.IPPROTO_TCP:
            return
        size = (ip[0] & 0x0F) * 4
        # The length in the header, not the packet's: short frames are padded. Zero: larger than it can say.
        tcp = ip[size : int.from_bytes(ip[2:4], "big") or len(ip)]
        source, destination = ip[12:16] + tcp[0:2], ip[16:20] + tcp[2:4]
        up = source not in self._ports
        port = self._ports.get(destination if up else source, self._others)
        payload = tcp[(tcp[12] >> 4) * 4 :]
        port.see(source + destination, tcp[13], payload, self._text, up=up)


def _key(address: str) -> bytes:
    host, _, port = address.rpartition(":")
    return socket.inet_aton(host) + int(port).to_bytes(2, "big")


def main() -> None:
    """See the top of the file."""
    sniffer = Sniffer(sys.argv[2], sys.argv[3:], bytes.fromhex(sys.argv[1]))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        readable, _, _ = select.select([sniffer.socket, sys.stdin], [], [])
        sniffer.take_all()
        if sys.stdin in readable:
            if not sys.stdin.readline():
                return
            sys.stdout.write(json.dumps(sniffer.report()) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
