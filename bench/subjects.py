"""Whom we measure: two proxies with a tunnel between them, and how much they use.

A subject is started fresh for each workload: a way in on 127.0.0.1, the far proxy on 127.0.0.2 with
the application behind it. Each of its proxies is one process.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from bench.pure_python.certs import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.workloads import Address

ROOT = Path(__file__).resolve().parent.parent
# Not 127.0.0.1, which every connection over loopback leaves from: one of them could have a port that was free just now.
NEAR, FAR = "127.0.0.3", "127.0.0.2"
START_DEADLINE = 20.0
ZTUNNEL = Path(sys.executable).with_name("ztunnel")


@dataclass(kw_only=True)
class Subject:
    """A running pair, or nothing between (`direct`)."""

    name: str
    way_in: Address
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def cpu(self) -> float:
        """CPU seconds of both proxies so far, all threads, user and system.

        The process' own CPU clock: what /proc/PID/stat says in ticks of 10 ms, in nanoseconds.
        """
        return sum(time.clock_gettime(_cpu_clock(process.pid)) for process in self.processes)

    def memory(self) -> int:
        """Resident bytes of both proxies."""
        return sum(_resident(process.pid) for process in self.processes)


@contextmanager
def direct(folder: Path) -> Iterator[Subject]:
    """No proxy at all: what the machine, the client and the application take by themselves."""
    with _application(folder) as application:
        yield Subject(name="direct", way_in=application)


@contextmanager
def pure_python(folder: Path) -> Iterator[Subject]:
    """bench/pure_python, one process for each end."""
    authority, module = Authority(), [sys.executable, "-m", "bench.pure_python"]
    server = "spiffe://cluster.local/ns/default/sa/server"
    authority.issue(folder / "server", server)
    authority.issue(folder / "client", "spiffe://cluster.local/ns/default/sa/client")
    with _application(folder) as application, ExitStack() as stack:
        serve = [*module, "serve", "--certs", str(folder / "server"), "--listen", f"{FAR}:0"]
        far = stack.enter_context(_process(serve, folder / "far.log"))
        peer = _ready(far)
        connect = [*module, "connect", "--certs", str(folder / "client"), "--peer", _text(peer)]
        connect += ["--expect", server, "--authority", _text(application)]
        near = stack.enter_context(_process(connect, folder / "near.log"))
        yield Subject(name="pure_python", way_in=_ready(near), processes=[near, far])


@contextmanager
def ours(folder: Path) -> Iterator[Subject]:
    """Two `ztunnel run`, with the built-in CA and an explicit local port as the way in."""
    with _application(folder) as application, ExitStack() as stack:
        hbone, way_in = f"{FAR}:{_free_port(FAR)}", f"{NEAR}:{_free_port(NEAR)}"
        forward = {"listen": way_in, "to": _text(application)}
        processes = []
        for name, listen, forwards in (
            ("server", {"inbound": hbone}, []),
            ("client", {}, [forward]),
        ):
            ready = f"{NEAR}:{_free_port(NEAR)}"
            node = {
                "workload": f"default/{name}",
                "listen": {**listen, "readiness": ready},
                "forwards": forwards,
                "hbonePort": int(hbone.rpartition(":")[2]),
                "ca": {"directory": str(folder / "ca")},
                "accessLog": {"format": "off"},
                "logLevel": "warn",
            }
            file, log = folder / f"{name}.yaml", folder / f"{name}.log"
            file.write_text(json.dumps({"node": node, "workloads": _MESH}))  # JSON is YAML
            process = stack.enter_context(_process([str(ZTUNNEL), "run", str(file)], log))
            _wait_ready(process, ready, log)
            processes.append(process)
        host, _, port = way_in.rpartition(":")
        yield Subject(name="ours", way_in=(host, int(port)), processes=processes)


@contextmanager
def passthrough(folder: Path, *, splice: bool) -> Iterator[Subject]:
    """One `ztunnel run` between client and an application that no mesh knows: plain TCP in, plain TCP out."""
    with _application(folder) as application:
        way_in, ready = f"{NEAR}:{_free_port(NEAR)}", f"{NEAR}:{_free_port(NEAR)}"
        node = {
            "workload": "default/client",
            "listen": {"readiness": ready},
            "forwards": [{"listen": way_in, "to": _text(application)}],
            "ca": {"directory": str(folder / "ca")},
            "accessLog": {"format": "off"},
            "logLevel": "warn",
            "splice": splice,
        }
        file, log = folder / "node.yaml", folder / "node.log"
        file.write_text(json.dumps({"node": node, "workloads": _MESH[:1]}))
        with _process([str(ZTUNNEL), "run", str(file)], log) as process:
            _wait_ready(process, ready, log)
            host, _, port = way_in.rpartition(":")
            name = "splice" if splice else "copy"
            yield Subject(name=name, way_in=(host, int(port)), processes=[process])


_MESH = [
    {
        "uid": name,
        "name": name,
        "namespace": "default",
        "serviceAccount": name,
        "workloadIps": [address],
        "protocol": "HBONE",
    }
    for name, address in (("client", NEAR), ("server", FAR))
]

SUBJECTS = {"direct": direct, "ours": ours, "pure_python": pure_python}


@contextmanager
def _application(folder: Path) -> Iterator[Address]:
    command = [sys.executable, "-m", "bench.application", FAR]
    with _process(command, folder / "application.log") as process:
        yield _ready(process)


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process of ours; it is gone afterwards. What it says on stderr goes to `log`."""
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _ready(process: subprocess.Popen[str]) -> Address:
    """The address in the line `ready HOST:PORT`."""
    assert process.stdout is not None
    line = _line(process.stdout)
    if not line.startswith("ready "):
        raise RuntimeError(f"{process.args!r} did not start: {line!r}")
    host, _, port = line.removeprefix("ready ").strip().rpartition(":")
    return host, int(port)


def _line(stream: IO[str]) -> str:
    readable, _, _ = select.select([stream], [], [], START_DEADLINE)
    return stream.readline() if readable else ""


def _wait_ready(process: subprocess.Popen[str], address: str, log: Path) -> None:
    """Until the readiness port says yes, or the process ends, or the deadline comes."""
    deadline = time.monotonic() + START_DEADLINE
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection(address, timeout=1)
        try:
            connection.request("GET", "/healthz/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} is not ready:\n{log.read_text()[-2000:]}")


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as probe:
        return int(probe.getsockname()[1])


def _text(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


def _cpu_clock(pid: int) -> int:
    """The clock id of another process' CPU time: `clock_getcpuclockid(3)`, CPUCLOCK_SCHED."""
    return (~pid << 3) | 2


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
