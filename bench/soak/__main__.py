"""`python -m bench.soak --minutes 20`: see README.md. Exit code 1 if anything does not fit."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.child import Child
from bench.soak import report, verdict
from bench.soak.ends import DEADLINE, MOST_WRONG
from bench.soak.script import MIB
from bench.soak.watch import EVERY, FEWEST, Watch
from tests.support.nodes import Mesh, Node, as_text, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

KEY_UPDATE_AFTER = 4 * MIB
WARM_UP = 10.0
# So that tunnels come and go all the time, and with them handshakes with the certificate of the moment.
POOL = {"idle": "1s", "maxStreams": 8}
CLIENTS = 2


@dataclass(kw_only=True)
class Bed:
    """Two nodes, the application behind the far one, and the ways in."""

    near: Node
    far: Node
    server: Child
    seed: int
    folder: Path
    asked: int = 0
    """Numbers of scripts that were given out."""
    tallies: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ports(self) -> dict[int, str]:
        """The application's two ports."""
        steady, torn = self.server.addresses
        return {steady[1]: "steady", torn[1]: "torn"}

    def access_log(self, node: Node) -> Path:
        """Where it is written."""
        return self.folder / f"{node.workload}.access"

    def load(self, seconds: float, workers: int, stack: ExitStack) -> list[Child]:
        """Start the clients."""
        steady, torn = (self.near.forwards[as_text(to)] for to in self.server.addresses)
        clients = []
        for number in range(CLIENTS):
            words = ["bench.soak.ends", "ask", "--seed", str(self.seed)]
            words += ["--steady", as_text(steady), "--torn", as_text(torn)]
            words += ["--first", str(self.asked + number), "--step", str(CLIENTS)]
            words += ["--workers", str(workers // CLIENTS), "--seconds", str(seconds)]
            clients.append(Child(*words))
            stack.callback(clients[-1].end)
        self.asked += 10**9  # the next ones begin elsewhere
        return clients

    def run(self, seconds: float, workers: int, watch: Watch | None = None) -> None:
        """Load for so long; all that the clients saw is in `tallies` then."""
        with ExitStack() as stack:
            clients = self.load(seconds, workers, stack)
            end = time.monotonic() + seconds
            every = min(EVERY, seconds / FEWEST)
            while watch and time.monotonic() < end:
                if not (self.near.running and self.far.running):
                    raise RuntimeError("a node has ended in the middle of the soak")
                if all(client.process.poll() is not None for client in clients):
                    break
                report.say(report.progress(watch.look()))
                time.sleep(max(0.0, min(every, end - time.monotonic())))
            left = max(0.0, end - time.monotonic()) + 2 * DEADLINE
            self.tallies += [json.loads(client.result(left)) for client in clients]

    def rests(self) -> dict[str, dict[str, int]]:
        """Wait until idle tunnels are gone; which descriptors are open then."""
        for node in (self.near, self.far):
            eventually(
                partial(_has_no_tunnel, node), f"{node.workload} has closed its tunnels", within=30
            )
        return {node.workload: node.descriptors() for node in (self.near, self.far)}


def _has_no_tunnel(node: Node) -> bool:
    return node.metrics().total("ztunnel_tunnels_open") == 0


def started(stack: ExitStack, asked: argparse.Namespace, seed: int) -> Bed:
    """All processes."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-soak-")))
    mesh = stack.enter_context(Mesh(folder, network="127.6"))
    mesh.workload("client")
    host = mesh.workload("server")
    server = Child("bench.soak.ends", "serve", host, "--seed", str(seed))
    stack.callback(server.end)

    def node(name: str, forwards: Sequence[str] = ()) -> Node:
        made = Node(
            mesh,
            name,
            forwards=forwards,
            workers=2,
            leaf_lifetime=f"{asked.leaf_lifetime}s",
            tls={"keyUpdateAfter": KEY_UPDATE_AFTER, "records": asked.records},
            pool=POOL,
            accessLog={"format": "json", "path": str(folder / f"{name}.access")},
        )
        return stack.enter_context(made)

    far = node("server")
    near = node("client", [as_text(to) for to in server.addresses])
    return Bed(near=near, far=far, server=server, seed=seed, folder=folder)


def judged(bed: Bed, descriptors: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Everything that does not fit, once all load is over."""
    after = bed.rests()
    for name, before in descriptors.items():
        if more := {k: n for k, n in after[name].items() if n > before.get(k, 0)}:
            yield f"{name}: open descriptors {dict(before)} before, {more} after"
    server = json.loads(bed.server.result(2 * DEADLINE))
    books = {}
    for node in (bed.near, bed.far):
        metrics = node.metrics()
        # The log is written by a thread of its own; it is all there when the node has ended.
        code = node.terminate()
        if code != 0:
            yield f"{node.workload}: exit code {code}"
        with bed.access_log(node).open() as lines:
            books[node.workload] = verdict.ledgers(lines, bed.ports)
        yield from verdict.counters(node.workload, metrics, books[node.workload].values())
        for line in node.log.all(level="error") + node.log.all(level="warn"):
            yield f"{node.workload} says: {line}"
    for tally in (*bed.tallies, server):
        yield from tally["wrong"]
        if tally["failures"] > MOST_WRONG:
            yield f"… and {tally['failures'] - MOST_WRONG} more"
    near, far = books[bed.near.workload], books[bed.far.workload]
    ends = {kind: verdict.Ends(client=summed(bed.tallies, kind), server=server[kind])
            for kind in ("steady", "torn")}  # fmt: skip
    yield from verdict.steady(ends["steady"], {"near": near["steady"], "far": far["steady"]})
    yield from verdict.torn(ends["torn"], near["torn"], far["torn"])
    for name, book in (("near", near), ("far", far)):
        if book["other"].connections:
            yield f"{name}: {book['other'].connections} connections to somewhere else: {book['other'].sample}"


def summed(tallies: Sequence[Mapping[str, Any]], kind: str) -> dict[str, int]:
    """Of several clients."""
    return {
        key: sum(tally[kind][key] for tally in tallies) for key in ("connections", "sent", "got")
    }


def main(words: Sequence[str] | None = None) -> int:
    """Run, judge, report."""
    asked = parser().parse_args(words)
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(2**32)
    report.say(f"seed {seed}: --seed {seed} makes the same connections again")
    with ExitStack() as stack:
        bed = started(stack, asked, seed)
        watch = Watch(near=bed.near, far=bed.far)
        idle = watch.look()
        bed.run(min(WARM_UP, asked.minutes * 60), asked.workers)
        descriptors = bed.rests()
        watch = Watch(near=bed.near, far=bed.far)
        bed.run(asked.minutes * 60, asked.workers, watch)
        curve = list(watch.samples)
        busy = watch.look()
        bed.rests()
        facts = report.Facts(
            seed=seed,
            idle=idle,
            curve=curve,
            busy=busy,
            end=watch.look(),
            tallies=[summed(bed.tallies, kind) for kind in ("steady", "torn")],
            handshakes=int(bed.near.metrics().total("ztunnel_handshakes_total")),
            certificates=sum(
                len(node.log.all("certificate installed")) for node in (bed.near, bed.far)
            ),
            key_update_after=KEY_UPDATE_AFTER,
        )
        faults = [*judged(bed, descriptors), *facts.growing()]
    print(facts.markdown(faults))
    if asked.json is not None:
        asked.json.write_text(json.dumps({**asdict(facts), "faults": faults}, indent=1))
    return 1 if faults else 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m bench.soak")
    made.add_argument("--minutes", type=float, default=20.0)
    made.add_argument("--workers", type=int, default=512, help="connections at once")
    made.add_argument("--seed", type=int, help="a random one if not given")
    made.add_argument("--leaf-lifetime", type=int, default=60, help="of certificates, seconds")
    made.add_argument("--records", choices=("in_place", "rustls"), default="in_place")
    made.add_argument("--json", type=Path, help="where the curve and all counts are written")
    return made


if __name__ == "__main__":
    sys.exit(main())
