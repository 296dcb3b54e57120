"""The steps of the story, in order. Each one shows something and raises `DemoFailed` if it is not so.

`traffic.py` looks, `policy.py`, `rotation.py` and `loss.py` change something under way, `speed.py` measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ztunnel.demo.contest import Contest
from ztunnel.demo.steps import loss, policy, rotation, speed, traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ztunnel.demo.stage import Stage
    from ztunnel.demo.story import Story


@dataclass(frozen=True, slots=True)
class Step:
    """A title and what is played."""

    title: str
    play: Callable[[Stage, Story], None]


TITLES = (
    "a page and a file through the tunnel",
    "both nodes logged it, with the same two identities",
    "the wire between the nodes, as a tap sees it",
    "a server that speaks first",
    "deny all, live; then one allow rule",
    "certificates renewed under load",
    "the far node killed in the middle of a transfer",
    "throughput, beside the same tunnel in pure Python",
)


def steps(stage: Stage) -> Iterator[Step]:
    """One after the other, as they are asked for."""
    contest = Contest(stage)
    plays: tuple[Callable[[Stage, Story], None], ...] = (
        traffic.page_and_file,
        traffic.both_logs,
        traffic.the_wire,
        traffic.server_first,
        policy.deny_and_allow,
        rotation.rotation_under_load,
        loss.far_node_killed,
        partial(speed.beside_pure_python, contest=contest),
    )
    for title, play in zip(TITLES, plays, strict=True):
        if play in AHEAD:
            contest.advance()
        yield Step(title, play)


# Steps that wait for the clock (a file's poll, a certificate's half-life): time for the last one's tunnels to start.
AHEAD = (policy.deny_and_allow, rotation.rotation_under_load)
