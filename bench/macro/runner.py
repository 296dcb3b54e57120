"""Rounds of blocks: every subject does every row, the order turned from round to round (A B B A)."""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.macro import ca, mesh, peers
from bench.macro.authority import Authority
from bench.macro.block import Block
from bench.macro.load import Load
from bench.macro.namespaces import test_bed
from bench.macro.peers import DIRECT, Pair, Site, Subject
from bench.macro.stats import Sample
from bench.macro.table import short

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence

    from bench.macro.rows import Row


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run."""

    subjects: Sequence[Subject]
    rows: Sequence[Row]
    rounds: int
    seconds: float
    program: Path
    scale: float = 1.0
    workers: int = 2


@dataclass(kw_only=True)
class Runner:
    """Runs a plan on a bed that is there."""

    plan: Plan
    site: Site
    load: Load
    folder: Path

    def samples(self) -> Iterator[Sample]:
        """Each block's, as it ends."""
        for number in range(self.plan.rounds):
            for row in self.plan.rows:
                subjects = [DIRECT, *self.plan.subjects]
                if number % 2:
                    subjects.reverse()
                for subject in subjects:
                    if not row.without & subject.kinds:
                        yield self.block(number, row, subject)

    def mesh_of(self, services: int) -> Path:
        """The file of a mesh with so many services."""
        file = self.folder / f"mesh-{services}.yaml"
        if not file.exists():
            file.write_text(mesh.local_config(services))
        return file

    def block(self, number: int, row: Row, subject: Subject) -> Sample:
        """Fresh processes for one row. A block that fails is a sample too."""
        begin = time.monotonic()
        folder = Path(
            tempfile.mkdtemp(prefix=f"{subject.name.replace(':', '-')}-", dir=self.folder)
        )
        error, block = None, None
        try:
            site = replace(self.site, local_config=self.mesh_of(row.services))
            with Pair.started(subject, site, folder, row.more) as pair:
                block = Block(
                    pair=pair,
                    load=self.load,
                    site=site,
                    seconds=self.plan.seconds,
                    scale=self.plan.scale,
                )
                if row.warm:
                    block.warm_up()
                row.run(block)
        except (RuntimeError, OSError, TimeoutError, ValueError) as failure:
            error = f"{type(failure).__name__}: {failure}"
        say(
            f"round {number + 1}/{self.plan.rounds} {row.id} {subject.name}: "
            f"{short(error) or 'ok'} ({time.monotonic() - begin:.1f} s)"
        )
        return Sample(
            round=number,
            row=row.title,
            subject=subject.name,
            figures=dict(block.figures) if block and not error else {},
            raw=tuple(block.raw) if block else (),
            error=error,
        )


@contextmanager
def running(plan: Plan) -> Iterator[Runner]:
    """Namespaces, the CA and the application; all gone afterwards."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-macro-")))
        bed = stack.enter_context(test_bed())
        for refusal in bed.refused:
            say(f"this kernel refuses {refusal}")
        authority = Authority()
        (folder / "root.pem").write_bytes(authority.root)
        sides = [lambda side=side: side.call(listen) for side in (bed.near, bed.far)]
        stack.enter_context(ca.serving(authority, mesh.TOKEN, folder / "ca", sides))
        load = Load(program=plan.program, bed=bed)
        stack.enter_context(load.server())
        site = peers.Site(
            bed=bed,
            authority=authority,
            ca_root=folder / "root.pem",
            local_config=folder / "mesh-1.yaml",
            workers=plan.workers,
        )
        yield Runner(plan=plan, site=site, load=load, folder=folder)


def listen() -> socket.socket:
    """The CA's socket, in the namespace of whoever calls."""
    import socket

    listener = socket.create_server(("127.0.0.1", mesh.CA_PORT))
    listener.setblocking(False)
    return listener


def say(text: str) -> None:
    """How far it is; results go to standard output."""
    print(text, file=sys.stderr, flush=True)
