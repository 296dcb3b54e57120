"""`python -m bench.macro`: proxies side by side. See bench/README.md."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.macro import machine, plot
from bench.macro.envoy import Envoy
from bench.macro.haproxy import Haproxy
from bench.macro.peers import Command, Peer, Subject
from bench.macro.rows import ROWS
from bench.macro.runner import Plan, running, say
from bench.macro.table import Results

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.macro.stats import Sample

ROOT = Path(__file__).resolve().parents[2]


def main(words: Sequence[str] | None = None) -> int:
    """Run what is asked for. 1 if a block failed."""
    asked = parser().parse_args(words)
    if os.geteuid() != 0:
        say("bench.macro makes network namespaces: run it as root")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        plan = plan_of(asked)
    except ValueError as error:
        say(f"bench.macro: {error}")
        return 2
    peers = {peer.name: peer for subject in plan.subjects for peer in subject.peers}
    facts = machine.facts() | {name: peer.about() for name, peer in peers.items()}
    facts |= {"rounds": plan.rounds, "seconds": plan.seconds}
    facts |= {"worker threads of each proxy": plan.workers}
    if asked.pin:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        facts |= {"pinned": "everything on one processor"}
    samples: list[Sample] = []
    try:
        with running(plan) as runner:
            samples += runner.samples()
    except KeyboardInterrupt:
        say("interrupted: what there is so far follows")
    results = Results(
        stamp=dt.datetime.now().strftime("%Y-%m-%d-%H%M"),
        machine=facts,
        subjects=[subject.name for subject in plan.subjects],
        titles={row.title: f"{row.id}: {row.title}" for row in plan.rows},
        samples=samples,
    )
    print(results.markdown())
    if asked.out and samples:
        write(results, asked.out)
    return 1 if any(sample.error for sample in samples) else 0


def write(results: Results, folder: Path) -> None:
    """Keep the run."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"macro-{results.stamp}"
    (folder / f"{name}.json").write_text(results.json())
    (folder / f"{name}.md").write_text(results.markdown())
    (folder / f"{name}.svg").write_text(plot.svg(results))
    say(f"written: {folder}/{name}.{{json,md,svg}}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    about = (
        "Proxies side by side in two network namespaces, with a direct connection as the control."
    )
    made = argparse.ArgumentParser(prog="python -m bench.macro", description=about)
    ids = ",".join(dict.fromkeys(row.id for row in ROWS))
    made.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="a command for both ends",
    )
    made.add_argument(
        "--pair",
        action="append",
        default=[],
        metavar="NEAR:FAR",
        help="two different peers, by name",
    )
    made.add_argument(
        "--with",
        dest="others",
        default="",
        metavar="envoy,haproxy",
        help="subjects we configure ourselves",
    )
    made.add_argument("--rows", default=ids, help=f"of {ids}")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--seconds", type=float, default=3.0, help="for each workload")
    made.add_argument(
        "--pin",
        action="store_true",
        help="all on one processor, one worker: path length, not wake-ups",
    )
    made.add_argument(
        "--scale", type=float, default=1.0, help="below 1: fewer connections, for a smoke test"
    )
    made.add_argument("--out", type=Path, help="folder for JSON, table and plot")
    made.add_argument("--load", type=Path, help="the load generator (built if not given)")
    return made


def plan_of(asked: argparse.Namespace) -> Plan:
    """What the command line means."""
    found: dict[str, Peer] = {}
    for text in asked.peer:
        peer = Command.parse(text)
        found[peer.name] = peer
    found |= {name: other(name) for name in asked.others.split(",") if name}
    subjects = [Subject(name=name, near=peer, far=peer) for name, peer in found.items()]
    for text in asked.pair:
        near, _, far = text.partition(":")
        if near not in found or far not in found:
            raise ValueError(f"--pair is NEAR:FAR of {', '.join(found)}, not {text!r}")
        subjects.append(Subject(name=text, near=found[near], far=found[far]))
    wanted = asked.rows.split(",")
    if unknown := set(wanted) - {row.id for row in ROWS}:
        raise ValueError(f"no row {', '.join(sorted(unknown))}")
    return Plan(
        subjects=subjects,
        rows=[row for row in ROWS if row.id in wanted],
        rounds=asked.rounds,
        seconds=asked.seconds,
        program=asked.load or build(),
        scale=asked.scale,
        workers=1 if asked.pin else 2,
    )


def other(name: str) -> Peer:
    """A subject that does not understand upstream's environment."""
    found: dict[str, Callable[[], Peer]] = {"envoy": Envoy.find, "haproxy": Haproxy.find}
    if name not in found:
        raise ValueError(f"--with takes {' and '.join(found)}, not {name!r}")
    return found[name]()


def build() -> Path:
    """The load generator, as fast as it gets."""
    words = ["cargo", "build", "--release", "--quiet", "--locked", "-p", "load"]
    if subprocess.run(words, cwd=ROOT, check=False).returncode:
        raise ValueError("the load generator does not build: `cargo build --release -p load`")
    return ROOT / "target" / "release" / "load"


if __name__ == "__main__":
    sys.exit(main())
