"""The tunnel's throughput beside bench/pure_python's: the same application, the same client, no tap."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ztunnel.demo.clients import take
from ztunnel.demo.network import Side
from ztunnel.demo.places import SOURCE, free
from ztunnel.demo.stage import Node, python, wait_ready
from ztunnel.demo.story import LeftOut, mib

if TYPE_CHECKING:
    from ztunnel.demo.processes import Child
    from ztunnel.demo.stage import Stage
    from ztunnel.demo.story import Story

# Once before the clock starts: tunnels are up, windows have grown.
WARM_UP = 4 * 1024 * 1024
ROUNDS = 2
RIVAL_START = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One bulk transfer."""

    name: str
    size: int
    seconds: float
    cpu: float
    """CPU-seconds of both proxies."""

    @property
    def cpu_per_gib(self) -> float:
        """CPU-seconds for each GiB."""
        return self.cpu / self.size * 2**30

    def row(self) -> list[str]:
        """For the table."""
        rate = f"{mib(self.size / self.seconds)}/s"
        cpu = f"{self.cpu:.2f} s"
        return [self.name, f"{self.seconds:.2f} s", rate, cpu, f"{self.cpu_per_gib:.2f} s"]


def beside_pure_python(stage: Stage, story: Story) -> None:
    """Downloads through each; seconds, CPU-seconds of both proxies, ratio."""
    size = stage.payload.size
    rival_missing = why_no_rival(stage)
    direct = None if stage.places.captured else _start_direct(stage)
    rival = [] if rival_missing else _start_rival(stage)
    tunnels = {"ztunnel": _direct_ready(stage, direct)}
    if rival:
        tunnels["pure Python"] = _rival_ready(rival)
    for tunnel in tunnels.values():
        _download(stage, tunnel[0], WARM_UP)
    # In turns, and the better one of each: what else this machine does should meet both.
    rounds = [
        {name: _measure(stage, name, *tunnel, size) for name, tunnel in tunnels.items()}
        for _ in range(ROUNDS)
    ]
    best = {
        name: min((runs[name] for runs in rounds), key=lambda run: run.seconds) for name in tunnels
    }
    heads = [f"{mib(size)}, best of {ROUNDS}", "time", "throughput", "CPU", "CPU per GiB"]
    story.table(heads, [run.row() for run in best.values()])
    if rival_missing:
        raise LeftOut(f"the comparison with pure Python: {rival_missing}")
    ours, theirs = best["ztunnel"], best["pure Python"]
    story.fact(
        "ratio",
        f"{theirs.seconds / ours.seconds:.1f} times the throughput, "
        f"{theirs.cpu_per_gib / ours.cpu_per_gib:.1f} times less CPU for each GiB",
    )


def why_no_rival(stage: Stage) -> str | None:
    """Why bench/pure_python cannot be run here, or None."""
    if stage.places.captured:
        return "it has no way in for captured traffic"
    if not (source_tree() / "bench" / "pure_python" / "__main__.py").is_file():
        return "bench/pure_python is part of the source tree, not of the installed package"
    if importlib.util.find_spec("h2") is None:
        return "the package `h2` is not installed; pip install h2"
    return None


def source_tree() -> Path:
    """Where the source tree would be, if this is not an installed package."""
    return Path(__file__).resolve().parents[4]


def _measure(stage: Stage, name: str, way_in: str | None, proxies: list[Child], size: int) -> Run:
    cpu, began = sum(proxy.cpu() for proxy in proxies), time.monotonic()
    _download(stage, way_in, size)
    seconds = time.monotonic() - began
    cpu = sum(proxy.cpu() for proxy in proxies) - cpu
    return Run(name=name, size=size, seconds=seconds, cpu=cpu)


def _download(stage: Stage, way_in: str | None, size: int) -> None:
    connection = stage.ways.at(way_in) if way_in else stage.ways.open(SOURCE)
    connection.sendall(b"%d\n" % size)
    take(connection, size)


def _start_direct(stage: Stage) -> tuple[str, Node]:
    """A node of the client's that dials node B itself: a tap in Python would be the slowest part."""
    places = stage.places
    way_in, readiness = free(places.near, 9100), free(places.near, 15121)
    file = stage.folder / "node-direct.yaml"
    file.write_text(places.direct_node(way_in, readiness))
    title = "node A without tap"
    return way_in, stage.new_node(title, Side.NEAR, file, readiness)


def _direct_ready(stage: Stage, direct: tuple[str, Node] | None) -> tuple[str | None, list[Child]]:
    """None: node A itself, which has no tap in its way."""
    if direct is None:
        return None, [stage.a.child, stage.b.child]
    way_in, node = direct
    wait_ready(node, stage.ways)
    return way_in, [node.child, stage.b.child]


def _start_rival(stage: Stage) -> list[Child]:
    """Both ends of the pure-Python tunnel, with certificates of their own."""
    tree, certs = source_tree(), stage.folder / "rival"
    # `bench` is no installed package: it is found in the current directory, the source tree.
    module = [word for word in python("bench.pure_python") if word != "-P"]
    issue = stage.processes.start(
        "rival-certs", [*module, "certs", str(certs), "web", "client"], cwd=tree
    )
    issue.wait_for(lambda line: "sa/client" in line, what="its certificates", patience=RIVAL_START)
    stage.processes.end(issue)
    places = stage.places
    peer, way_in = free(places.far, 15108), free(places.near, 9200)
    name = "spiffe://cluster.local/ns/default/sa/web"
    serve = ["serve", "--certs", str(certs / "web"), "--listen", peer]
    connect = ["connect", "--certs", str(certs / "client"), "--listen", way_in, "--peer", peer]
    connect += ["--expect", name, "--authority", places.targets[SOURCE]]
    return [
        stage.processes.start(f"rival-{words[0]}", [*module, *words], cwd=tree)
        for words in (serve, connect)
    ]


def _rival_ready(rival: list[Child]) -> tuple[str, list[Child]]:
    lines = [
        child.wait_for(lambda line: line.startswith("ready "), what="ready", patience=RIVAL_START)
        for child in rival
    ]
    return lines[-1].removeprefix("ready ").strip(), rival
