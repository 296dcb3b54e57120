"""The steps of the story, in order. Each one shows something and raises `DemoFailed` if it is not so.

`traffic.py` looks, `policy.py`, `rotation.py` and `loss.py` change something under way, `speed.py` measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ztunnel.demo.steps import loss, policy, rotation, speed, traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from ztunnel.demo.stage import Stage
    from ztunnel.demo.story import Story


@dataclass(frozen=True, slots=True)
class Step:
    """A title and what is played."""

    title: str
    play: Callable[[Stage, Story], None]


STEPS = (
    Step("a page and a file through the tunnel", traffic.page_and_file),
    Step("both nodes logged it, with the same two identities", traffic.both_logs),
    Step("the wire between the nodes, as a tap sees it", traffic.the_wire),
    Step("a server that speaks first", traffic.server_first),
    Step("deny all, live; then one allow rule", policy.deny_and_allow),
    Step("certificates renewed under load", rotation.rotation_under_load),
    Step("the far node killed in the middle of a transfer", loss.far_node_killed),
    Step("throughput, beside the same tunnel in pure Python", speed.beside_pure_python),
)
