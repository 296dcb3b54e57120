"""`python -m bench.control`: what a large mesh costs while traffic runs. See bench/README.md.

One proxy in a namespace is told its mesh by a control plane beside it and carries round trips to another namespace,
whose proxy has a small mesh from a file. Steps: traffic alone, the whole mesh in one push, changes one by one, the
control plane gone and back.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.control import istiod
from bench.macro import ca, load, machine, mesh, usage
from bench.macro.__main__ import build
from bench.macro.authority import Authority
from bench.macro.load import Load
from bench.macro.namespaces import test_bed
from bench.macro.peers import Command, Site, http_ready
from bench.macro.runner import listen, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.macro.namespaces import Bed

ROOT = Path(__file__).resolve().parents[2]
ADMIN_PORT = 15000
WATCH_EVERY = 0.02
# A thousand round trips a second: traffic that leaves a machine of two cores room to do something beside it.
CONNECTIONS, EVERY_MS = 50, 50
# The control plane gives way to the proxies: a real one is on another machine.
GIVES_WAY = 10
MIB = 1024 * 1024


def main(words: Sequence[str] | None = None) -> int:
    """Run all steps once."""
    asked = parser().parse_args(words)
    if os.geteuid() != 0:
        say("bench.control makes network namespaces: run it as root")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as stack:
        run = stack.enter_context(running(asked))
        run.steps()
    text = run.report()
    print(text)
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        stem = asked.out / f"control-{dt.datetime.now():%Y-%m-%d-%H%M}"
        stem.with_suffix(".md").write_text(text)
        stem.with_suffix(".json").write_text(json.dumps(run.kept(), indent=1))
        say(f"written: {stem}.{{json,md}}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m bench.control", description=__doc__)
    made.add_argument("--proxy", default=f"{ROOT}/.venv/bin/ztunnel proxy ztunnel")
    made.add_argument("--workloads", type=int, default=100_000)
    made.add_argument("--services", type=int, default=5_000)
    made.add_argument("--policies", type=int, default=2_000)
    made.add_argument("--rate", type=int, default=1_000, help="changes a second")
    made.add_argument("--seconds", type=float, default=60.0, help="of changes")
    made.add_argument("--traffic", type=float, default=10.0, help="seconds of traffic alone")
    made.add_argument("--out", type=Path, help="a folder for the table and the figures")
    return made


@dataclass
class Watch:
    """What can be seen of a process from outside, every 20 ms."""

    pid: int
    bed: Bed
    memory: list[tuple[float, int]] = field(default_factory=list)
    """Seconds since the beginning, bytes resident."""
    answers: list[tuple[float, float]] = field(default_factory=list)
    """When the admin port, which is Python's, was asked, and after how many seconds it answered."""
    began: float = field(default_factory=time.monotonic)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def going(self) -> Iterator[None]:
        """In two threads, until the end of the block."""
        threads = [
            threading.Thread(target=self._remember, name="memory"),
            threading.Thread(target=self._ask, name="admin"),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(10)

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    def _remember(self) -> None:
        while not self._stop.wait(WATCH_EVERY):
            self.memory.append((self.now(), usage.resident(self.pid)))

    def _ask(self) -> None:
        while not self._stop.wait(WATCH_EVERY):
            begin = self.now()
            if (took := self.bed.near.call(_asked)) is not None:
                self.answers.append((begin, took))

    def worst(self, since: float, until: float) -> float:
        """The longest answer that began or ended between two moments."""
        found = [took for begin, took in self.answers if begin + took >= since and begin <= until]
        return max(found, default=0.0)

    def peak(self, since: float, until: float) -> int:
        """The most memory between two moments."""
        return max((size for at, size in self.memory if since <= at <= until), default=0)


def _asked() -> float | None:
    """How long the admin port takes for its shortest page; called in the proxy's namespace."""
    begin = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", ADMIN_PORT, timeout=10)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException) as error:
        say(f"admin: {error}")
        return None
    finally:
        connection.close()
    return time.monotonic() - begin


@dataclass
class Plane:
    """The control plane's process."""

    bed: Bed
    folder: Path
    sizes: tuple[int, int, int]
    process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """In the near namespace."""
        words = [sys.executable, "-m", "bench.control.istiod", str(self.folder), str(istiod.PORT)]
        self.process = self.bed.near.call(
            subprocess.Popen,
            words + [str(size) for size in self.sizes],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        os.setpriority(os.PRIO_PROCESS, self.process.pid, GIVES_WAY)
        self._answer()

    def kill(self) -> None:
        """As a machine that goes away."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def ask(self, command: str) -> dict[str, Any]:
        """One command, one answer."""
        assert self.process is not None
        load.tell(self.process, command)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process is not None
        found = load.line(self.process)
        if "error" in found:
            raise RuntimeError(f"control plane: {found['error']}")
        return found


@dataclass
class Run:
    """The steps, and what came of them."""

    asked: argparse.Namespace
    load: Load
    plane: Plane
    site: Site
    near_pid: int = 0
    figures: dict[str, Any] = field(default_factory=dict)
    watch: Watch | None = None

    def steps(self) -> None:
        """All of them, in order."""
        asked, watch = self.asked, Watch(self.near_pid, self.plane.bed)
        self.watch = watch
        with watch.going():
            idle = usage.memory([self.near_pid]).resident
            self.figures["resident MiB, small mesh"] = idle / MIB
            self.figures["traffic alone"] = self._traffic(asked.traffic)
            self.figures["longest admin answer before, ms"] = 1000 * watch.worst(0, watch.now())
            self._whole(watch, idle)
            self._updates(watch)
            self._back(watch)

    def _whole(self, watch: Watch, idle: int) -> None:
        """Everything in one push, in the middle of traffic."""
        since = watch.now()
        with self._traffic_beside(4.0 + self.asked.traffic / 2) as traffic:
            time.sleep(1.0)
            pushed = self.plane.ask("whole")
        until = watch.now()
        self.figures["whole mesh"] = pushed
        self.figures["traffic during the whole mesh"] = traffic
        self.figures["longest admin answer during it, ms"] = 1000 * watch.worst(since, until)
        self.figures["resident MiB, peak during it"] = watch.peak(since, until) / MIB
        time.sleep(3.0)
        after = usage.memory([self.near_pid]).resident
        self.figures["resident MiB, whole mesh"] = after / MIB
        self.figures["growth MiB"] = (after - idle) / MIB

    def _updates(self, watch: Watch) -> None:
        """One change after another."""
        count = int(self.asked.rate * self.asked.seconds)
        self.plane.ask(f"prepare {count}")
        since = watch.now()
        cpu = usage.cpu_seconds([self.near_pid])
        with self._traffic_beside(self.asked.seconds) as traffic:
            changed = self.plane.ask(f"updates {self.asked.rate} {count}")
        self.figures["changes"] = changed
        self.figures["traffic during the changes"] = traffic
        self.figures["CPU seconds of the proxy during them"] = (
            usage.cpu_seconds([self.near_pid]) - cpu
        )
        self.figures["longest admin answer during them, ms"] = 1000 * watch.worst(
            since, watch.now()
        )
        self.figures["resident MiB after the changes"] = (
            usage.memory([self.near_pid]).resident / MIB
        )

    def _back(self, watch: Watch) -> None:
        """The control plane goes and comes back."""
        self.plane.kill()
        with self._traffic_beside(5.0) as traffic:
            begin = time.monotonic()
            self.plane.start()
            resumed = self.plane.ask("connected")["resumed"]
            self.figures["resumed with versions"] = resumed
            self.figures["back after, s"] = time.monotonic() - begin
            whole = sum(resumed.values()) == 0
            answered = self.plane.ask("whole" if whole else "nothing")
        self.figures["sent again"] = answered
        self.figures["traffic while it is gone and back"] = traffic
        self.figures["resident MiB at the end"] = usage.memory([self.near_pid]).resident / MIB
        self.figures["peak MiB of all"] = watch.peak(0, watch.now()) / MIB

    def _traffic(self, seconds: float) -> dict[str, Any]:
        with self._traffic_beside(seconds) as found:
            pass
        return found

    @contextmanager
    def _traffic_beside(self, seconds: float) -> Iterator[dict[str, Any]]:
        """Round trips for a time, during the block and on until they end."""
        words = self.load.words(
            "rtt",
            to=mesh.FAR_ADDRESS,
            marked=False,
            conns=CONNECTIONS,
            every=EVERY_MS,
            seconds=seconds,
        )
        found: dict[str, Any] = {}
        with self.load.client(words) as process:
            yield found
            found.update(load.result(process, seconds + load.GRACE))

    def kept(self) -> dict[str, Any]:
        """All there is, for whoever wants to draw it."""
        assert self.watch is not None
        curve = [(round(at, 3), size) for at, size in self.watch.memory[::5]]
        return {"figures": self.figures, "memory": curve, "machine": machine.facts()}

    def report(self) -> str:
        """A table."""
        rows = [f"| {name} | {_shown(value)} |" for name, value in self.figures.items()]
        sizes = f"{self.asked.workloads} workloads, {self.asked.services} services, {self.asked.policies} policies"
        return "\n".join([f"# {sizes}", "", "| | |", "|---|---|", *rows, ""])


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())
    return str(value)


@contextmanager
def running(asked: argparse.Namespace) -> Iterator[Run]:
    """Namespaces, CA, application, control plane and both proxies; all gone afterwards."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-control-")))
        bed = stack.enter_context(test_bed())
        authority = Authority()
        (folder / "root.pem").write_bytes(authority.root)
        sides = [lambda side=side: side.call(listen) for side in (bed.near, bed.far)]
        stack.enter_context(ca.serving(authority, mesh.TOKEN, folder / "ca", sides))
        traffic = Load(program=build(), bed=bed)
        stack.enter_context(traffic.server())
        config = folder / "mesh.yaml"
        config.write_text(mesh.local_config())
        site = Site(
            bed=bed,
            authority=authority,
            ca_root=folder / "root.pem",
            local_config=config,
            workers=2,
        )
        sizes = (asked.workloads, asked.services, asked.policies)
        plane = Plane(bed, folder / "ca", sizes)
        stack.callback(plane.kill)
        plane.start()
        run = Run(asked=asked, load=traffic, plane=plane, site=site)
        peer = Command.parse(f"ours={asked.proxy}")
        stack.callback(peer.start(mesh.FAR, site, folder / "far", {}).kill)
        delivered = {
            "XDS_ADDRESS": f"https://127.0.0.1:{istiod.PORT}",
            "XDS_ROOT_CA": str(site.ca_root),
        }
        # Ready only once the control plane has delivered: told here, as it is asked for.
        threading.Thread(target=_first, args=(plane,), daemon=True).start()
        told = dataclasses.replace(site, local_config=folder / "nothing.yaml")
        told.local_config.write_text("{}")
        near = peer.start(mesh.NEAR, told, folder / "near", delivered)
        stack.callback(near.kill)
        assert bed.near.call(http_ready(mesh.READY_PORT, "/healthz/ready"))
        run.near_pid = near.process.pid
        yield run


def _first(plane: Plane) -> None:
    plane.ask("connected")
    plane.ask("base")


if __name__ == "__main__":
    sys.exit(main())
