"""Network namespaces on one bridge: somewhere to be a machine of one's own.

    with Network() as network:
        a, b = network.host("10.77.0.1"), network.host("10.77.0.2")
        a.run("ping", "-c1", "10.77.0.2")
        b.call(socket.create_server, ("0.0.0.0", 80))

Every interface and address is made inside a namespace; the machine's own network gets a few names under
/run/netns and nothing else. Knows nothing of nodes or redirection; counterpart: `capture.py`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

P = ParamSpec("P")
R = TypeVar("R")

PREFIX = "zt-test-"
MASK = 16
COMMAND_DEADLINE = 60.0
_CLONE_NEWNET = 0x40000000
_numbers = count()
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """One network namespace. Has a thread that lives in it, so that Python can open sockets there."""

    def __init__(self, label: str) -> None:
        self.name = f"{PREFIX}{os.getpid()}-{next(_numbers)}-{label}"
        command("ip", "netns", "add", self.name)
        self._thread = ThreadPoolExecutor(1, initializer=self._enter)
        self.ip("link", "set", "lo", "up")

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it inside: a socket that it opens and a process that it starts belong here for life."""
        return self._thread.submit(function, *args, **kwargs).result()

    def run(
        self, *words: str, given: str = "", within: float = COMMAND_DEADLINE
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside to its end, whatever its exit code."""
        return subprocess.run(
            ["ip", "netns", "exec", self.name, *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )

    @contextlib.contextmanager
    def program(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """A program that runs inside while the test is its counterpart. Its input and output are pipes."""
        words = ("ip", "netns", "exec", self.name, *words)
        pipe = subprocess.PIPE
        with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            try:
                yield process
            finally:
                process.kill()

    def must(self, *words: str, given: str = "") -> str:
        """Run a program inside that has to succeed, and give what it said."""
        return command("ip", "netns", "exec", self.name, *words, given=given)

    def ip(self, *words: str) -> None:
        """`ip` inside, without starting a program there."""
        command("ip", "-n", self.name, *words)

    def close(self) -> None:
        """End what still runs inside, and the namespace with everything in it."""
        self._thread.shutdown()
        remove(self.name)

    def _enter(self) -> None:
        # Threads have a namespace each (setns(2)); os.setns needs Python 3.12.
        with (Path("/run/netns") / self.name).open() as namespace:
            if _libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), self.name)


class Host(Namespace):
    """A namespace with an address and an `eth0`."""

    def __init__(self, label: str, address: str) -> None:
        super().__init__(label)
        self.address = address

    def takes(self, address: str) -> None:
        """Have this address too."""
        self.ip("addr", "add", f"{address}/{MASK}", "dev", "eth0")

    def loses(self, address: str) -> None:
        """Have it no longer."""
        self.ip("addr", "del", f"{address}/{MASK}", "dev", "eth0")


class Network:
    """Hosts, and the wire between them: a bridge in a namespace of its own, where everything can be seen."""

    def __init__(self) -> None:
        sweep()
        self._open = contextlib.ExitStack()
        self.wire = Namespace("wire")
        self._open.callback(self.wire.close)
        self.ports: dict[Host, str] = {}

    def __enter__(self) -> Self:
        """Make the bridge; nothing is left behind if that fails."""
        try:
            self.wire.ip("link", "add", "wire", "type", "bridge", "forward_delay", "0")
            self.wire.ip("link", "set", "wire", "up")
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Remove every namespace, and with them interfaces, addresses and rules."""
        self._open.close()

    def host(self, address: str) -> Host:
        """One more machine on the wire."""
        port = f"port{len(self.ports)}"
        host = Host(f"host{len(self.ports)}", address)
        self._open.callback(host.close)
        self.wire.ip(
            "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host.name
        )
        self.wire.ip("link", "set", port, "master", "wire", "up")
        host.ip("link", "set", "eth0", "up")
        host.takes(address)
        # BBR, the default of some machines, paces by a model that a wire without delay does not fit. The route
        # may choose where a namespace's own setting may not (net.ipv4.tcp_allowed_congestion_control).
        network = ".".join([*address.split(".")[:2], "0", "0"])
        route = (f"{network}/{MASK}", "dev", "eth0", "proto", "kernel", "scope", "link")
        host.ip("route", "replace", *route, "src", address, "congctl", "cubic")
        self.ports[host] = port
        return host


def command(*words: str, given: str = "") -> str:
    """Run a program that has to succeed, and give what it said."""
    done = subprocess.run(
        words, input=given, capture_output=True, text=True, timeout=COMMAND_DEADLINE, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def remove(name: str) -> None:
    """Remove a namespace of ours and the processes in it, which can only be what a test has left there."""
    for pid in command("ip", "netns", "pids", name).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    command("ip", "netns", "del", name)


def sweep() -> None:
    """Remove what a test run that was killed could not remove itself."""
    for name in re.findall(rf"^({PREFIX}(\d+)-\S+)", command("ip", "netns", "list"), re.MULTILINE):
        if not Path(f"/proc/{name[1]}").exists():
            remove(name[0])
