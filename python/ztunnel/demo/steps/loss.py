"""The far node dies in mid-transfer, and is back."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ztunnel.demo import curl
from ztunnel.demo.clients import Ending, Fetch, get
from ztunnel.demo.places import HTTP
from ztunnel.demo.stage import PAGE
from ztunnel.demo.story import MIB, expect, mib

if TYPE_CHECKING:
    from ztunnel.demo.curl import Curl
    from ztunnel.demo.stage import Stage
    from ztunnel.demo.story import Story

# How far a transfer is when the node dies; the clients do not read on until it is dead.
FAR_ENOUGH = 4 * MIB
# Small, so that most of the file is still on the other side then.
RECEIVE_BUFFER = 64 * 1024


def far_node_killed(stage: Stage, story: Story) -> None:
    """Clients of a node that was killed are told so; none of them takes half of a file for the whole."""
    size = stage.payload.size
    with ExitStack() as running:
        connection = running.enter_context(stage.ways.open(HTTP, receive_buffer=RECEIVE_BUFFER))
        clients: dict[str, Fetch | Curl] = {"raw socket": Fetch(connection, "/file.bin")}
        if curl.path() is not None:
            clients["curl"] = running.enter_context(stage.curl(stage.url("/file.bin")))
        for client in clients.values():
            client.read(FAR_ENOUGH)
        mark = stage.a.child.mark()
        pid = stage.b.child.pid
        stage.b.child.kill()
        story.fact("kill -9", f"node B (pid {pid}), with {len(clients)} transfers under way")
        began = time.monotonic()
        for name, client in clients.items():
            ending = client.ending()
            story.fact(name, f"{_said(ending)} after {mib(ending.received)} of {mib(size)}")
            expect(
                ending.received < size,
                f"{name}: the file was through before the kill; larger --size",
            )
            expect(ending.kind == "RST", f"{name}: was told {ending.kind} instead of ECONNRESET")
            if isinstance(client, curl.Curl):
                story.fact("", client.words())
        told = time.monotonic() - began
    line = stage.a.child.wait_for(
        lambda line: "\tconnection complete\t" in line and "error=" in line,
        after=mark,
        what="the end of the transfer",
    )
    story.fact("node A", f"{line.rpartition('error=')[2].strip(chr(34))}; told within {told:.2f} s")
    stage.start_node(stage.b)
    page = get(stage.ways.open(HTTP), "/")
    expect(page == PAGE, f"another page than the server's came: {page[:80]!r}")
    story.fact("restart", f"node B is back as pid {stage.b.child.pid}, and so is the page")


def _said(ending: Ending) -> str:
    return "ECONNRESET" if ending.kind == "RST" else ending.kind
