"""`ztunnel demo`: the main job on real input, told as a story; 0 only if each of its steps held.

    story.py        what is said            stage.py      what is on the stage
    steps/          the story               places.py     where it is
    clients.py      unaware clients         tap.py        between the nodes
    curl.py                                 applications.py   behind node B
    contest.py      tunnels to compare      namespaces.py, sniffer.py   with --root
    processes.py, interrupts.py             so that nothing is left behind

Nobody but `ztunnel.cli.demo` imports it.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ztunnel.demo.interrupts import Interrupted, Interrupts
from ztunnel.demo.keep import commands_to_try
from ztunnel.demo.network import OneMachine
from ztunnel.demo.places import CLIENT, WEB, loopback
from ztunnel.demo.processes import Processes
from ztunnel.demo.stage import set_up
from ztunnel.demo.steps import TITLES, steps
from ztunnel.demo.story import MIB, DemoFailed, Story, expect, mib

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ztunnel.demo.network import Network
    from ztunnel.demo.places import Places
    from ztunnel.demo.stage import Stage

TAIL = 15


def run(*, keep: bool, root: bool, size: int) -> int:
    """Plays it with a file of `size` MiB; gives the exit code."""
    story = Story(sys.stdout)
    with Interrupts() as interrupts:
        try:
            with _layout(root=root) as (places, network), _folder(interrupts) as folder:
                processes = Processes(folder, interrupts)
                try:
                    return _play(story, folder, places, network, processes, size=size, keep=keep)
                finally:
                    interrupts.ignore()
                    processes.close()
        except DemoFailed as error:
            story.text(f"error: {error}")
            return 1
        except Interrupted as signal:
            story.text(f"\nended by {signal}; nothing was left behind")
            return signal.exit_code


def _play(
    story: Story,
    folder: Path,
    places: Places,
    network: Network,
    processes: Processes,
    *,
    size: int,
    keep: bool,
) -> int:
    began = time.monotonic()
    story.title("ztunnel demo: two nodes, one tunnel")
    number, title = 0, "start"
    try:
        stage = set_up(folder, places, network, processes, size=size * MIB)
        _introduce(story, stage, time.monotonic() - began)
        for number, step in enumerate(steps(stage), 1):
            title = step.title
            with story.step(number, title):
                step.play(stage, story)
        number, title = len(TITLES) + 1, "end"
        if keep:
            _keep(story, stage)
        else:
            _end(stage)
    except Exception as error:  # whatever it is, the story ends with the step it was in
        story.failure(number, title, _cause(error))
        for name in ("node-a", "node-b"):
            story.log_tail(name, processes.last_lines(name, TAIL))
        return 1
    left_out = f" ({len(story.left_out)} left out in part)" if story.left_out else ""
    story.text(f"\nall {len(TITLES)} steps held{left_out}, in {time.monotonic() - began:.1f} s")
    return 0


def _introduce(story: Story, stage: Stage, seconds: float) -> None:
    """Who is on the stage."""
    for node, who, at in (
        (stage.a, CLIENT, stage.places.near),
        (stage.b, WEB, stage.places.far),
    ):
        story.fact(node.title, f"{at}  {who}\npid {node.child.pid}, ready in {node.ready_ms} ms")
    story.fact("behind B", f"python -m http.server (pid {stage.servers[0].pid}), two TCP services")
    story.fact("folder", f"{stage.folder}  (files, logs, built-in CA; removed at the end)")
    story.fact("file", f"{mib(stage.payload.size)} with {stage.payload.markers} markers")
    story.text(f"  up in {seconds:.1f} s")


def _keep(story: Story, stage: Stage) -> None:
    """Leaves it running until a signal, which is no failure then."""
    story.text("")
    for name, command in commands_to_try(stage):
        story.fact(name, command)
    story.text("\nall steps held; it runs until Ctrl-C")
    with contextlib.suppress(Interrupted):
        stage.processes.wait_for_a_signal(
            lambda child: story.text(f"{child.name} (pid {child.pid}) has ended")
        )


def _end(stage: Stage) -> None:
    """Both nodes end as they should when they are asked to."""
    codes = stage.processes.end(stage.a.child, stage.b.child)
    for node, code in zip(stage.nodes(), codes, strict=True):
        expect(code == 0, f"{node.title} was asked to end and did so with {code}")


def _cause(error: Exception) -> str:
    if isinstance(error, DemoFailed):
        return str(error)
    return f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def _layout(*, root: bool) -> Iterator[tuple[Places, Network]]:
    if root:
        from ztunnel.demo.namespaces import namespaces

        with namespaces() as layout:
            yield layout
    else:
        with loopback() as places:
            yield places, OneMachine()


@contextlib.contextmanager
def _folder(interrupts: Interrupts) -> Iterator[Path]:
    """A temporary folder, for this user only."""
    with contextlib.ExitStack() as stack:
        with interrupts.held():
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="ztunnel-demo-"))
        yield Path(name)
