"""Who is measured: a command at both ends, two different ones, or nothing between.

A `Peer` knows how to start one proxy for one end; a `Subject` is a pair of peers; a `Pair` is one that
runs. Every proxy is started in the namespace of its end, in a folder of its own, and killed with
everything that descends from it.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from bench.macro import machine, mesh, usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bench.macro.authority import Authority
    from bench.macro.namespaces import Bed
    from tests.netns.namespaces import Namespace

START_DEADLINE = 60.0
POLL = 0.002


@dataclass(frozen=True, kw_only=True)
class Site:
    """What every peer needs to know of the place where it is to run."""

    bed: Bed
    authority: Authority
    ca_root: Path
    local_config: Path
    workers: int
    """Threads that each proxy may use for traffic."""


@dataclass(kw_only=True)
class Proxy:
    """One that runs."""

    process: subprocess.Popen[bytes]
    place: mesh.Place
    log: Path
    ready_after: float = 0.0

    def wait(self, namespace: Namespace, ready: Callable[[], bool], since: float) -> Self:
        """Until it says that it is ready, or has ended, or the deadline has come."""
        while time.monotonic() < since + START_DEADLINE:
            if namespace.call(ready):
                self.ready_after = time.monotonic() - since
                return self
            if self.process.poll() is not None:
                break
            time.sleep(POLL)
        self.kill()
        raise RuntimeError(
            f"{self.process.args!r} at {self.place.name} is not ready (exit code "
            f"{self.process.returncode}):\n{self.log.read_text(errors='replace')[-2000:]}"
        )

    def kill(self) -> None:
        """End it and everything it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


class Peer(Protocol):
    """Something that can be one end of a tunnel."""

    @property
    def name(self) -> str: ...

    def about(self) -> str:
        """For the reader of a table."""

    def start(self, place: mesh.Place, site: Site, folder: Path, more: Mapping[str, str]) -> Proxy:
        """Start it, and come back when it is ready."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """Any program that understands upstream's dedicated-mode environment."""

    name: str
    words: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """From NAME=COMMAND. A program that lies here is named by its whole path: it runs elsewhere."""
        name, equals, command = text.partition("=")
        words = shlex.split(command)
        if not equals or not name or not words:
            raise ValueError(f"a peer is NAME=COMMAND, not {text!r}")
        found = shutil.which(words[0])
        if found is None:
            raise ValueError(f"peer {name}: there is no program {words[0]!r}")
        return cls(name=name, words=(str(Path(found).absolute()), *words[1:]))

    def about(self) -> str:
        """What is run, and its version."""
        return machine.version(self.words)

    def start(self, place: mesh.Place, site: Site, folder: Path, more: Mapping[str, str]) -> Proxy:
        """Start it and wait for its readiness port."""
        told = mesh.environment(
            place,
            config=site.local_config,
            ca_root=site.ca_root,
            workers=site.workers,
            more=more,
        )
        namespace = site.bed.at(place)
        begin = time.monotonic()
        proxy = launch(self.words, namespace, place, folder, told)
        return proxy.wait(namespace, http_ready(mesh.READY_PORT, "/healthz/ready"), begin)


def launch(
    words: tuple[str, ...],
    namespace: Namespace,
    place: mesh.Place,
    folder: Path,
    environment: Mapping[str, str],
) -> Proxy:
    """Start a program in a namespace; what it says goes into a file."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{place.name}.log"
    with log.open("wb") as out:
        process = namespace.call(
            subprocess.Popen,
            words,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    return Proxy(process=process, place=place, log=log)


def http_ready(port: int, path: str) -> Callable[[], bool]:
    """Whether a GET gives 200."""

    def ready() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ready


def listening(port: int) -> Callable[[], bool]:
    """Whether somebody accepts."""

    def ready() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    return ready


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Who stands at the two ends; `None` is nobody: the control."""

    name: str
    near: Peer | None
    far: Peer | None

    @property
    def peers(self) -> list[Peer]:
        """Those that there are."""
        return [peer for peer in (self.near, self.far) if peer is not None]

    @property
    def kinds(self) -> frozenset[str]:
        """The peers' names."""
        return frozenset(peer.name for peer in self.peers)


DIRECT = Subject(name="direct", near=None, far=None)


@dataclass(kw_only=True)
class Pair:
    """Two proxies that run, or none."""

    subject: Subject
    proxies: list[Proxy] = field(default_factory=list)

    @classmethod
    @contextlib.contextmanager
    def started(
        cls, subject: Subject, site: Site, folder: Path, more: Mapping[str, str]
    ) -> Iterator[Self]:
        """Start the far end and the near one; kill both afterwards."""
        pair = cls(subject=subject)
        try:
            for place, peer in ((mesh.FAR, subject.far), (mesh.NEAR, subject.near)):
                if peer is not None:
                    pair.proxies.append(peer.start(place, site, folder / place.name, more))
            yield pair
        finally:
            for proxy in pair.proxies:
                proxy.kill()

    @property
    def near(self) -> Proxy:
        """The client's side."""
        return next(proxy for proxy in self.proxies if proxy.place is mesh.NEAR)

    def cpu(self) -> float:
        """CPU seconds of both so far."""
        return usage.cpu_seconds(proxy.process.pid for proxy in self.proxies)

    def memory(self) -> usage.Memory:
        """Of both, now."""
        return usage.memory(proxy.process.pid for proxy in self.proxies)

    def check(self) -> None:
        """Both still run."""
        for proxy in self.proxies:
            if (code := proxy.process.poll()) is not None:
                tail = proxy.log.read_text(errors="replace")[-1000:]
                raise RuntimeError(f"the proxy at {proxy.place.name} ended with {code}:\n{tail}")
