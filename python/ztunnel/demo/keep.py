"""What a person can try while the demo is left running."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from ztunnel.demo.network import Side
from ztunnel.demo.places import GREETER, HOST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ztunnel.demo.stage import Stage


def commands_to_try(stage: Stage) -> Iterator[tuple[str, str]]:
    """Pairs of what it is and the command."""

    def near(*words: str) -> str:
        return shlex.join(stage.network.command(Side.NEAR, words))

    places = stage.places
    if places.socks:
        yield "SOCKS5", near("curl", "--proxy", f"socks5h://{places.socks}", f"http://{HOST}/")
        yield "local port", near("curl", stage.url("/"))
    else:
        yield "to the VIP", near("curl", stage.url("/"))
    greeter = places.forwards.get(GREETER, f"{places.vip}:{GREETER}")
    yield "greeter", near("curl", "--max-time", "2", f"telnet://{greeter}")
    yield "metrics", near("curl", f"http://{places.near_metrics}/metrics")
    folder = stage.folder
    yield "logs", shlex.join(["tail", "-f", str(folder / "node-a.log"), str(folder / "node-b.log")])
    yield "policy", f"$EDITOR {shlex.quote(str(folder / 'mesh.yaml'))}   (in force a second later)"
