"""A policy that changes while connections run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ztunnel.demo.clients import Ending, Refused, get, read_to_end, receive_exactly, receive_line
from ztunnel.demo.places import ALLOW_CLIENT, DENY_ALL, GREETER, HTTP, SOURCE
from ztunnel.demo.stage import PAGE
from ztunnel.demo.story import DemoFailed, expect, mib

if TYPE_CHECKING:
    import socket

    from ztunnel.demo.stage import Stage
    from ztunnel.demo.story import Story

# A gibibyte is never through before the policy comes: the client does not read meanwhile.
MUCH = 2**30


def deny_and_allow(stage: Stage, story: Story) -> None:
    """Deny all cuts what runs and refuses what is new; an allow rule for the client's identity heals it."""
    ways = stage.ways
    with ways.open(GREETER) as quiet, ways.open(SOURCE) as busy:
        receive_line(quiet)
        busy.sendall(b"%d\n" % MUCH)
        receive_exactly(busy, 1024 * 1024)
        story.fact("running", "a connection at rest and a download")
        mark = stage.b.child.mark()
        began = time.monotonic()
        stage.apply(DENY_ALL)
        endings = [_ending(quiet, "the connection at rest"), _ending(busy, "the download")]
        took = time.monotonic() - began
    story.fact("deny-all", f"written to mesh.yaml, in force {took:.1f} s later")
    for name, ending in zip(("at rest", "download"), endings, strict=True):
        after = f" after {mib(ending.received)}" if ending.received else ""
        story.fact("", f"{name}: cut by {_said(ending)}{after}")
        expect(ending.kind == "RST", f"{name}: ended by a clean {ending.kind}, not by a RST")
    _new_ones_are_refused(stage, story)
    line = stage.b.child.wait_for(
        lambda line: "policy rejection" in line, after=mark, what="the policy's reason"
    )
    story.fact("node B", line.rpartition("error=")[2].strip('"'))
    stage.apply(DENY_ALL, ALLOW_CLIENT)
    page = get(ways.open(HTTP), "/")
    expect(page == PAGE, f"another page than the server's came: {page[:80]!r}")
    with ways.open(GREETER) as again:
        greeting = receive_line(again)
    story.fact("allow rule", "for the client's identity only: the page and the greeting are back")
    expect(greeting.startswith("220 "), f"not the server's greeting: {greeting!r}")


def _new_ones_are_refused(stage: Stage, story: Story) -> None:
    try:
        with stage.ways.open(GREETER) as refused:
            ending = read_to_end(refused)
    except ConnectionResetError:
        ending = Ending(kind="RST", received=0)
    expect(
        ending == Ending(kind="RST", received=0),
        f"a new connection was not refused by a RST: {ending.kind} after {ending.received} bytes",
    )
    way = "captured" if stage.places.captured else "local port"
    story.fact("new ones", f"{way}: {_said(ending)}")
    if stage.places.socks is None:
        return
    try:
        stage.ways.socks(GREETER).close()
    except Refused as reply:
        story.fact("", f"SOCKS5: {reply}")
        expect("not allowed" in str(reply), f"SOCKS5 gives another reason: {reply}")
    else:
        raise DemoFailed("SOCKS5 made a connection that the policy forbids")


def _ending(connection: socket.socket, name: str) -> Ending:
    try:
        return read_to_end(connection)
    except TimeoutError:
        raise DemoFailed(f"{name} was not cut") from None


def _said(ending: Ending) -> str:
    return "ECONNRESET" if ending.kind == "RST" else ending.kind
