"""One stream over a long fat link, proxies side by side: see bench/README.md. Root: it makes namespaces.

python -m bench.distance --peer ours='ztunnel proxy ztunnel' --peer other=/path/to/it
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.child import Child
from bench.distance.stream import carries
from bench.macro import ca, mesh
from bench.macro.authority import Authority
from bench.macro.namespaces import test_bed
from bench.macro.peers import DIRECT, Command, Pair, Site, Subject
from bench.macro.runner import listen, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.distance.stream import Direction, Speed
    from bench.macro.namespaces import Bed

MIB = 2**20
RELAY_PORT = 15090
RELAY_MARK = 15090
RULES = (
    # The near proxy's tunnels go to the relay,
    f"-p tcp --dport {mesh.HBONE_PORT} -m mark --mark {mesh.MARK} -j REDIRECT --to-ports {RELAY_PORT}",
    # whose own connections go where they say.
    f"-p tcp -m mark --mark {RELAY_MARK} -j RETURN",
)
DIRECTIONS: tuple[Direction, ...] = ("down", "up")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One stream."""

    subject: str
    direction: Direction
    speed: Speed
    on_the_way: int
    """The most bytes that were on the link at once: the window that the receiver gave."""


@contextmanager
def link(bed: Bed, port: int, delay: float) -> Iterator[Child]:
    """A relay before the far side's port, in the near namespace."""
    words = ["--listen", f"0.0.0.0:{RELAY_PORT}", "--to", f"{mesh.FAR_ADDRESS}:{port}"]
    words += ["--delay", str(delay), "--mark", str(RELAY_MARK)]
    child = bed.near.call(Child, "bench.distance.relay", *words)
    try:
        yield child
    finally:
        child.end()


@dataclass(kw_only=True)
class Runner:
    """Measures on a bed that is there."""

    site: Site
    folder: Path
    asked: argparse.Namespace

    def figure(self, subject: Subject, direction: Direction) -> Figure:
        """Fresh processes and a fresh link for each."""
        asked = self.asked
        application = ("127.0.0.1", RELAY_PORT)
        port = mesh.APPLICATION_PORT
        if subject.peers:
            application, port = (mesh.FAR_ADDRESS, mesh.APPLICATION_PORT), mesh.HBONE_PORT
        with ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            relay = stack.enter_context(link(self.site.bed, port, asked.delay / 2000))
            stack.enter_context(Pair.started(subject, self.site, folder, {}))
            speed = self.site.bed.near.call(
                carries, application, direction, asked.finding, asked.seconds
            )
            most = json.loads(relay.result(30))
            return Figure(
                subject=subject.name, direction=direction, speed=speed, on_the_way=most[direction]
            )

    def figures(self, subjects: Sequence[Subject]) -> Iterator[Figure]:
        """All rounds, in turning order."""
        for number in range(self.asked.rounds):
            for subject in subjects if number % 2 else reversed(subjects):
                for direction in DIRECTIONS:
                    figure = self.figure(subject, direction)
                    say(f"round {number + 1}: {line(figure)}")
                    yield figure


@contextmanager
def running(asked: argparse.Namespace) -> Iterator[Runner]:
    """Namespaces, the CA, the application, and the capture of tunnels; all gone afterwards."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-distance-")))
        bed = stack.enter_context(test_bed())
        for rule in RULES:
            bed.near.must("iptables", "-t", "nat", "-I", "OUTPUT", *rule.split())
        authority = Authority()
        (folder / "root.pem").write_bytes(authority.root)
        (folder / "mesh.yaml").write_text(mesh.local_config())
        sides = [lambda side=side: side.call(listen) for side in (bed.near, bed.far)]
        stack.enter_context(ca.serving(authority, mesh.TOKEN, folder / "ca", sides))
        words = ("bench.application", mesh.FAR_ADDRESS, str(mesh.APPLICATION_PORT))
        stack.callback(bed.far.call(Child, *words).end)
        site = Site(
            bed=bed,
            authority=authority,
            ca_root=folder / "root.pem",
            local_config=folder / "mesh.yaml",
            workers=2,
        )
        yield Runner(site=site, folder=folder, asked=asked)


def line(figure: Figure) -> str:
    """One stream in a line."""
    return (
        f"{figure.subject} {figure.direction}: {figure.speed.steady / MIB:.1f} MiB/s, "
        f"{figure.speed.first / MIB:.1f} before, {figure.on_the_way / MIB:.2f} MiB on the way"
    )


def table(figures: Sequence[Figure], delay: float) -> Iterator[str]:
    """Medians, one row for each subject."""
    yield f"| one stream, {delay:.0f} ms there and back | down, MiB/s | up, MiB/s | on the way down, MiB | up, MiB |"
    yield "|---|--:|--:|--:|--:|"
    for name in dict.fromkeys(figure.subject for figure in figures):
        cells = []
        for attribute in ("steady", "on_the_way"):
            for direction in DIRECTIONS:
                mine = [f for f in figures if (f.subject, f.direction) == (name, direction)]
                values = [f.speed.steady if attribute == "steady" else f.on_the_way for f in mine]
                cells.append(f"{statistics.median(values) / MIB:.1f}")
        yield f"| {name} | {' | '.join(cells)} |"


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print."""
    asked = parser().parse_args(words)
    if os.geteuid() != 0:
        say("bench.distance makes network namespaces: run it as root")
        return 2
    peers = [Command.parse(text) for text in asked.peer]
    subjects = [DIRECT, *(Subject(name=peer.name, near=peer, far=peer) for peer in peers)]
    with running(asked) as runner:
        figures = list(runner.figures(subjects))
    print("\n".join(table(figures, asked.delay)))
    if asked.json is not None:
        asked.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m bench.distance")
    made.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND")
    made.add_argument("--delay", type=float, default=80.0, help="there and back, milliseconds")
    made.add_argument("--finding", type=float, default=3.0, help="seconds that do not count")
    made.add_argument("--seconds", type=float, default=5.0, help="that do")
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--json", type=Path, help="where every stream is written")
    return made


if __name__ == "__main__":
    sys.exit(main())
