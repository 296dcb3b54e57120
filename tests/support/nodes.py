"""Real nodes for tests: `ztunnel run` as a process of its own, and the mesh file that it reads.

    with Mesh(tmp_path, network="127.1") as mesh:
        mesh.workload("client")
        mesh.workload("server")
        with Node(mesh, "server"), Node(mesh, "client", forwards=["127.1.0.2:8080"]) as client:
            socket.create_connection(client.forwards["127.1.0.2:8080"])

Every node has its own loopback address, every mesh its own /24, so that tests may run side by side.
Leaving a node's `with` ends it and fails if it panicked. Counterpart: `apps.py`, the applications.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
HBONE_PORT = 15008
# A debug build on two shared cores, with the first node making the CA's root. Nobody waits for as long as this who is
# not about to fail: ten times what it takes on a machine that is busy with something else.
START_DEADLINE = 60.0
DEADLINE = 30.0
# What must never stand in a node's output, whatever the test did to it.
CRASHES = re.compile(
    r"panicked at|Traceback \(most recent call last\)|a worker failed|RUST_BACKTRACE"
)

EMPTY: Mapping[str, str] = MappingProxyType({})
# What a run of the tests gives every node that does not say otherwise (`--records`, conftest.py).
EVERY_NODE: dict[str, dict[str, str]] = {}

Address = tuple[str, int]
Fields = dict[str, Any]


def eventually(condition: Callable[[], object], what: str, within: float = DEADLINE) -> None:
    """Wait until `condition()` is true, or fail saying `what` did not happen and what was seen last."""
    deadline = time.monotonic() + within
    while not (seen := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within:g} s: {what}; last seen: {seen!r}")
        time.sleep(0.01)


def as_text(address: Address) -> str:
    """`ip:port`."""
    return f"{address[0]}:{address[1]}"


def as_address(text: str) -> Address:
    """The counterpart of `as_text`."""
    host, _, port = text.rpartition(":")
    return host, int(port)


class Mesh:
    """Workloads, services and policies in one file that all nodes of a test read."""

    def __init__(self, folder: Path, *, network: str) -> None:
        """`network` is the test file's own range, such as `127.1`; a free /24 of it is taken."""
        self.folder = folder
        self.path = folder / "mesh.yaml"
        self.policies: list[Fields] = []
        self._workloads: list[Fields] = []
        self._services: list[Fields] = []
        self._guard, self._prefix = _claim(network)
        self._hosts = iter(range(1, 250))

    def __enter__(self) -> Self:
        """Nothing yet: nodes write the file when they start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give the addresses back."""
        self._guard.close()

    def address(self) -> str:
        """A loopback address that nobody else uses."""
        return f"{self._prefix}.{next(self._hosts)}"

    def workload(self, name: str, *, protocol: str = "HBONE", **more: object) -> str:
        """Add a workload with an address of its own, and give that."""
        address = self.address()
        self._workloads.append(
            {
                "name": name,
                "namespace": "default",
                "serviceAccount": name,
                "workloadIps": [address],
                "protocol": protocol,
                **more,
            }
        )
        return address

    def service(self, name: str, ports: Mapping[int, int], workload: str, **more: object) -> str:
        """Add a service in front of one workload: service port to workload port. Gives its name."""
        hostname = f"{name}.default.svc.cluster.local"
        vip, ports = self.address(), dict(ports)
        self._services.append(
            {
                "name": name,
                "namespace": "default",
                "hostname": hostname,
                "vips": [f"/{vip}"],
                "ports": ports,
                **more,
            }
        )
        of_workload = self.edit(workload).setdefault("services", {})
        of_workload[f"default/{hostname}"] = ports
        return hostname

    def vip(self, hostname: str) -> str:
        """The address of a service."""
        return str(self.edit_service(hostname)["vips"][0]).removeprefix("/")

    def edit_service(self, hostname: str) -> Fields:
        """The service's entry, for changing it; `write` tells the nodes."""
        return next(s for s in self._services if s["hostname"] == hostname)

    def edit(self, name: str) -> Fields:
        """The workload's entry, for changing it; `write` tells the nodes."""
        return next(w for w in self._workloads if w["name"] == name)

    def address_of(self, name: str) -> str:
        """The workload's address."""
        return str(self.edit(name)["workloadIps"][0])

    def write(self) -> None:
        """Put the mesh into its file, at once: nodes that run see the old one or the new one."""
        self.write_text(
            json.dumps(  # JSON is YAML
                {
                    "workloads": self._workloads,
                    "services": self._services,
                    "policies": self.policies,
                },
                indent=1,
            )
        )

    def write_text(self, text: str) -> None:
        """Put any text into the mesh's file."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)


class Node:
    """One `ztunnel run`, for one workload of a mesh. `with` starts it and ends it."""

    program: Sequence[str] = ("-m", "ztunnel")
    """What the interpreter runs."""
    options: Sequence[str] = ("--debuggable",)
    """Tests count descriptors and look into memory, and not all of them run as root."""

    def __init__(
        self,
        mesh: Mesh,
        workload: str,
        *,
        forwards: Sequence[str] = (),
        socks5: bool = False,
        admin: bool = False,
        inbound: str | None = None,
        hbone_port: int = HBONE_PORT,
        drain: str = "5s",
        ca: str = "ca",
        leaf_lifetime: str = "24h",
        **more: object,
    ) -> None:
        """`forwards` are targets; `more` goes into `node:` as it is (`deadlines`, `http2`, `pool` …)."""
        self.workload = workload
        self.address = mesh.address_of(workload)
        self._mesh = mesh
        self._targets = list(forwards)
        listen = {
            "inbound": inbound or f"{self.address}:{HBONE_PORT}",
            "metrics": f"{self.address}:0",
            "readiness": f"{self.address}:0",
            **({"socks5": f"{self.address}:0"} if socks5 else {}),
            **({"admin": f"{self.address}:0"} if admin else {}),
        }
        self._settings: Fields = {
            "workload": f"default/{workload}",
            "mesh": str(mesh.path),
            "listen": listen,
            "forwards": [{"listen": f"{self.address}:0", "to": to} for to in self._targets],
            "hbonePort": hbone_port,
            "ca": {"directory": str(mesh.folder / ca), "leafLifetime": leaf_lifetime},
            "accessLog": {"format": "json"},
            "drain": drain,
            **EVERY_NODE,
            **more,
        }
        self.file = mesh.folder / f"{workload}.yaml"
        self.bound: dict[str, Address] = {}
        self._process: subprocess.Popen[str] | None = None
        self.access: Lines
        self.log: Lines

    def __enter__(self) -> Self:
        """Start, and wait until it is ready."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        """End it if it still runs. A crash fails the test, even one that the test did not notice."""
        if self.running:
            # Nobody waits for connections that the test left open.
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)
            try:
                self.process.wait(0.2)
            except subprocess.TimeoutExpired:
                self.kill()
        self._close_pipes()
        if kind is None:
            self.assert_no_crash()

    def start(self) -> None:
        """Start it, again if it has ended; `DEADLINE` for its `ready` line."""
        if not self._mesh.path.exists():
            self._mesh.write()
        self.file.write_text(json.dumps({"node": self._settings}, indent=1))
        self.launch("run", *self.options, "--log-format", "json", str(self.file))
        self.bound = bound(self.log.wait_for("ready", within=START_DEADLINE))

    def launch(self, *arguments: str, environment: Mapping[str, str] = EMPTY) -> None:
        """Start the program, and listen to what it says."""
        self._process = subprocess.Popen(
            [sys.executable, *self.program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._mesh.folder,
            env={**os.environ, "PYTHONPATH": python_path(), **environment},
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.access = Lines(self._process.stdout, f"{self.workload}'s access log")
        self.log = Lines(self._process.stderr, f"{self.workload}'s log")

    @property
    def process(self) -> subprocess.Popen[str]:
        """The running process, or the last one."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def pid(self) -> int:
        """Of the running process, or the last one."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def forwards(self) -> dict[str, Address]:
        """The local port for each target."""
        return {to: self.bound[f"forwards[{i}]"] for i, to in enumerate(self._targets)}

    @property
    def socks5(self) -> Address:
        """Where the node speaks SOCKS5."""
        return self.bound["socks5"]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.process.kill()
        self.process.wait(DEADLINE)

    def terminate(self, within: float = DEADLINE) -> int:
        """SIGTERM, and wait for the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(within)

    def wait(self, within: float = DEADLINE) -> int:
        """Wait for the exit code."""
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.workload} has not ended within {within:g} s; {self.log}")

    def assert_no_crash(self) -> None:
        """Neither a panic nor a traceback in anything that the node has said."""
        for lines in (self.log, self.access):
            crashes = [line for line in lines.text if CRASHES.search(line)]
            assert not crashes, f"{lines.name}: {crashes}"

    def metrics(self) -> Metrics:
        """All metrics, now."""
        return Metrics(http_get(self.bound["metrics"], "/metrics"))

    def resident(self) -> int:
        """Resident bytes of its own: stacks and heaps, not the code, which is read in as it is used."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
        assert found, status
        return int(found[1]) * 1024

    def descriptors(self) -> dict[str, int]:
        """What its open file descriptors are, by kind: `socket`, `pipe`, `anon_inode` …"""
        kinds: dict[str, int] = {}
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                kind = str(entry.readlink()).partition(":")[0]
            except FileNotFoundError:
                continue
            kinds[kind] = kinds.get(kind, 0) + 1
        return kinds

    def _close_pipes(self) -> None:
        if self._process is None:
            return
        for lines in (self.log, self.access):
            lines.join()


def bound(ready: Fields) -> dict[str, Address]:
    """Where a node listens, from its `ready` line."""
    names = ("admin", "forwards[", "inbound", "metrics", "outbound", "readiness", "socks5")
    # The admin port may have several addresses.
    first = {name: str(value).partition(",")[0] for name, value in ready.items()}
    return {name: as_address(value) for name, value in first.items() if name.startswith(names)}


class Lines:
    """What a process writes, line by line, as it writes it."""

    def __init__(self, stream: IO[str], name: str) -> None:
        self.name = name
        self.text: list[str] = []
        self._parsed: list[Fields] = []
        self._changed = threading.Condition()
        self._ended = False
        self._stream = stream
        self._thread = threading.Thread(target=self._read, name=name, daemon=True)
        self._thread.start()

    def __str__(self) -> str:
        """The last lines, for a failure's message."""
        return "\n".join([f"{self.name}:", *deque(self.text, 20)])

    def __len__(self) -> int:
        """Lines so far; hand it to `wait_for` as `after` to look at later ones only."""
        with self._changed:
            return len(self._parsed)

    def all(self, message: str | re.Pattern[str] = "", **wanted: object) -> list[Fields]:
        """The lines with this message and these fields. A field's name may write `.` as `_`."""
        with self._changed:
            return [line for line in self._parsed if _fits(line, message, wanted)]

    def wait_for(
        self,
        message: str | re.Pattern[str] = "",
        *,
        after: int = 0,
        within: float = DEADLINE,
        **wanted: object,
    ) -> Fields:
        """The first line that fits, once it is there. Message and values may be patterns (`re.compile`)."""
        deadline = time.monotonic() + within
        seen = after
        with self._changed:
            while True:
                for line in self._parsed[seen:]:
                    if _fits(line, message, wanted):
                        return line
                seen = len(self._parsed)
                left = deadline - time.monotonic()
                if left <= 0 or self._ended:
                    why = "the process has ended" if self._ended else f"{within:g} s"
                    pytest.fail(f"no line {message!r} {wanted!r} ({why}); {self}")
                self._changed.wait(left)

    def join(self) -> None:
        """Wait for the end of the stream."""
        self._thread.join(DEADLINE)

    def _read(self) -> None:
        with self._stream:
            for text in self._stream:
                try:
                    line = json.loads(text)
                except ValueError:
                    line = {"message": text.rstrip("\n")}
                with self._changed:
                    self.text.append(text.rstrip("\n"))
                    self._parsed.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Metrics:
    """One look at a node's metrics (the Prometheus text format)."""

    def __init__(self, text: str) -> None:
        self.samples = [
            (name, dict(_LABEL.findall(labels or "")), float(value))
            for name, labels, value in _SAMPLE.findall(text)
        ]

    def total(self, name: str, **labels: str) -> float:
        """The sum over every series of this name that has these labels; 0 if there is none."""
        return sum(value for _, value in self.series(name, **labels))

    def series(self, name: str, **labels: str) -> Iterator[tuple[dict[str, str], float]]:
        """Every series of this name that has these labels."""
        for found, has, value in self.samples:
            if found == name and labels.items() <= has.items():
                yield has, value


_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def http_get(address: Address, path: str) -> str:
    """The body of an answer with status 200."""
    with socket.create_connection(address, DEADLINE) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    return body.decode()


def _fits(line: Fields, message: str | re.Pattern[str], wanted: Mapping[str, object]) -> bool:
    if message and not _same(line.get("message"), message):
        return False
    return all(
        _same(line.get(name, line.get(name.replace("_", ".", 1))), value)
        for name, value in wanted.items()
    )


def _same(found: object, wanted: object) -> bool:
    if isinstance(wanted, re.Pattern):
        return isinstance(found, str) and wanted.search(found) is not None
    return found == wanted


def _claim(network: str) -> tuple[socket.socket, str]:
    """A /24 that no other test uses: it belongs to who holds port 15007 of its last address."""
    for third in _from_here():
        guard = socket.socket()
        try:
            guard.bind((f"{network}.{third}.254", 15007))
            guard.listen(1)
        except OSError:
            guard.close()
            continue
        return guard, f"{network}.{third}"
    pytest.fail(f"no free addresses in {network}")


def _from_here() -> Iterable[int]:
    start = os.getpid() % 250
    return ((start + i) % 250 for i in range(250))


def python_path() -> str:
    """Where a child process finds the package that this process would import."""
    spec = importlib.util.find_spec("ztunnel")
    package = Path(spec.origin).parent.parent if spec and spec.origin else ROOT / "python"
    return os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH", "")]))
