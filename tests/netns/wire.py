"""tcpdump on the wire between two hosts: what an onlooker sees.

with Tap(network, host, tmp_path) as tap:
    ...
assert b"secret" not in tap.bytes
"""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
from typing import TYPE_CHECKING, Self

from tests.netns.namespaces import COMMAND_DEADLINE, command
from tests.support.nodes import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.netns.namespaces import Host, Network

# Nobody listens there; see `Tap.__exit__`.
_DISCARD = 9
_OURS = f"(udp port {_DISCARD}) or (icmp[icmptype] == icmp-unreach)"


class Tap:
    """Every frame to and from one host, while the `with` lasts."""

    def __init__(self, network: Network, host: Host, folder: Path) -> None:
        self._network = network
        self._host = host
        self._file = folder / f"{host.name}.pcap"
        self._tcpdump: subprocess.Popen[str]

    def __enter__(self) -> Self:
        """Start, and wait until nothing can be missed."""
        port = self._network.ports[self._host]
        tcpdump = f"tcpdump -i {port} -nn -U --immediate-mode -B 16384 -Z root -w {self._file}"
        self._tcpdump = subprocess.Popen(
            ["ip", "netns", "exec", self._network.wire.name, *tcpdump.split()],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._tcpdump.stderr is not None
        said = self._tcpdump.stderr.readline()
        while said and "listening on" not in said:
            said = self._tcpdump.stderr.readline()
        assert said, "tcpdump has ended"
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Stop when everything sent so far is in the file: a last packet that can be told from the others."""
        try:
            if kind is None:
                self._mark_the_end()
            self._tcpdump.send_signal(signal.SIGINT)
            summary = self._tcpdump.communicate(timeout=COMMAND_DEADLINE)[1]
        finally:
            self._tcpdump.kill()
            self._tcpdump.communicate()
        if kind is None:
            assert "0 packets dropped by kernel" in summary, summary

    @property
    def bytes(self) -> bytes:
        """Everything that was seen, headers included."""
        return self._file.read_bytes()

    def packets(self, wanted: str = "") -> list[str]:
        """A line for each packet that this filter (pcap-filter(7)) fits, ours left out."""
        return self._read(f"({wanted}) and not ({_OURS})" if wanted else f"not ({_OURS})")

    def strangers(self) -> list[str]:
        """What is neither HBONE nor address resolution."""
        return self.packets("not (tcp port 15008) and not arp and not icmp6")

    def _read(self, wanted: str) -> list[str]:
        said = command("tcpdump", "-nn", "-q", "-r", str(self._file), wanted)
        return said.splitlines()

    def _mark_the_end(self) -> None:
        end = secrets.token_bytes(32)
        somebody = next(h for h in self._network.ports if h is not self._host)
        with self._host.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(end, (somebody.address, _DISCARD))
        eventually(lambda: end in self.bytes, "the last packet is in tcpdump's file")
