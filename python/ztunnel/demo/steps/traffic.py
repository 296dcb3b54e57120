"""The first four steps: what the tunnel carries, what the nodes say about it, what the wire shows."""

from __future__ import annotations

import re
import shlex
import time
from typing import TYPE_CHECKING

from ztunnel.demo import curl
from ztunnel.demo.clients import Fetch, get, receive_exactly, receive_line
from ztunnel.demo.places import CLIENT, GREETER, HTTP, WEB
from ztunnel.demo.stage import PAGE
from ztunnel.demo.story import expect, mib

if TYPE_CHECKING:
    from collections.abc import Callable

    from ztunnel.demo.stage import Stage
    from ztunnel.demo.story import Story


def page_and_file(stage: Stage, story: Story) -> None:
    """A page by name through SOCKS5, a large file through the local port; nothing missing, nothing changed."""
    page = _page(stage, story)
    expect(page == PAGE, f"another page than the server's came: {page[:80]!r}")
    story.fact("", f"{len(page)} bytes: {page.decode().strip()}")
    began = time.monotonic()
    received, size = _file(stage, story)
    seconds = time.monotonic() - began
    payload = stage.payload
    expect(size == payload.size, f"{size} bytes arrived, the file has {payload.size}")
    story.fact("", f"{mib(size)} in {seconds:.2f} s, {mib(size / seconds)}/s with the tap at work")
    story.fact("sha-256", f"{payload.sha256}  of the file\n{received}  of what arrived")
    expect(received == payload.sha256, "the two SHA-256 differ")


def both_logs(stage: Stage, story: Story) -> None:
    """The lines of that transfer in both access logs, matched by what they say, side by side."""
    size = stage.payload.size
    a = access_line(stage.a.child.wait_for(_transfer("outbound", size), what="the transfer's line"))
    b = access_line(stage.b.child.wait_for(_transfer("inbound", size), what="the transfer's line"))
    names = ("direction", "src.identity", "dst.identity", "dst.service", "dst.hbone_addr")
    rows = [[name, a.get(name, "-"), b.get(name, "-")] for name in names]
    rows += [
        ["bytes to B", a["bytes_sent"], b["bytes_recv"]],
        ["bytes to A", a["bytes_recv"], b["bytes_sent"]],
        ["duration", a["duration"], b["duration"]],
    ]
    story.table(["", "node A", "node B"], rows)
    for line, node in ((a, "A"), (b, "B")):
        pair = (line.get("src.identity"), line.get("dst.identity"))
        expect(pair == (CLIENT, WEB), f"node {node} logged other identities: {pair}")
    expect(
        (a["bytes_sent"], a["bytes_recv"]) == (b["bytes_recv"], b["bytes_sent"]),
        "the two nodes counted different numbers of bytes",
    )


def the_wire(stage: Stage, story: Story) -> None:
    """The marker of the file is nowhere on the wire; the same tap sees it as soon as there is no tunnel."""
    payload = stage.payload
    seen, *others = stage.wire.seen()
    story.fact("marker", f"{payload.marker.decode()}  {payload.markers} times in the file")
    story.fact(
        "tunnel",
        f"{mib(seen.total)} on the wire, {seen.total - payload.size:+,} bytes beside the file; "
        f"first bytes {seen.first.hex(' ')} (a TLS handshake)\n"
        f"marker seen: {seen.found} times",
    )
    expect(seen.total > payload.size, f"the tap saw {seen.total} bytes, less than the file has")
    expect(seen.first[:1] == b"\x16", f"what comes first is no TLS handshake: {seen.first.hex()}")
    expect(seen.found == 0, f"the marker was seen {seen.found} times between the nodes")
    elsewhere = sum(other.total for other in others)
    expect(elsewhere == 0, f"{elsewhere} bytes passed outside of the tunnel")
    if stage.places.captured:
        story.fact("", "not a byte to or from any other port than 15008")
    with stage.ways.plain() as connection:
        received = Fetch(connection, "/file.bin").rest()
    expect(received == payload.sha256, "the control: what came around the tunnel is another file")
    plain = stage.wire.seen()[1]
    story.fact(
        "control",
        f"the same file past the same tap without a tunnel: {mib(plain.total)}\n"
        f"marker seen: {plain.found} times",
    )
    # On a real wire TCP may send a segment twice.
    as_often = (
        plain.found >= payload.markers if stage.places.captured else plain.found == payload.markers
    )
    expect(
        as_often,
        f"the control: the tap should see the marker {payload.markers} times: {plain.found}",
    )


def server_first(stage: Stage, story: Story) -> None:
    """A greeting arrives although the client has not said a word; then both talk."""
    way = "captured" if stage.places.captured else "local port"
    for name in (way, "SOCKS5") if stage.places.socks else (way,):
        began = time.monotonic()
        ways = stage.ways
        with ways.socks(GREETER) if name == "SOCKS5" else ways.open(GREETER) as connection:
            greeting = receive_line(connection)
            took = time.monotonic() - began
            expect(greeting.startswith("220 "), f"not the server's greeting: {greeting!r}")
            connection.sendall(b"and now the client")
            answer = receive_exactly(connection, 18)
        expect(answer == b"and now the client", f"not what was said: {answer!r}")
        if stage.places.captured:
            seen = greeting.split()[2].strip(",")
            expect(seen == stage.places.near, f"the server sees another client: {seen}")
        story.fact(name, f"{greeting!r} after {took * 1000:.0f} ms, nothing sent before it")


def access_line(line: str) -> dict[str, str]:
    """The fields of a line of the access log."""
    return {
        name: plain or quoted
        for name, quoted, plain in re.findall(r'([\w.]+)=(?:"((?:[^"\\]|\\.)*)"|(\S+))', line)
    }


def _transfer(direction: str, size: int) -> Callable[[str], bool]:
    """Picks the line of the file's transfer: the only one with so many bytes."""
    name = "bytes_recv" if direction == "outbound" else "bytes_sent"

    def wanted(line: str) -> bool:
        if "\tconnection complete\t" not in line or f'direction="{direction}"' not in line:
            return False
        return int(access_line(line)[name]) >= size

    return wanted


def _page(stage: Stage, story: Story) -> bytes:
    """By name through SOCKS5 where there is SOCKS5."""
    socks = stage.places.socks
    if curl.path() is None:
        story.fact("page", "GET / by the demo's own client (there is no curl here)")
        return get(stage.ways.socks(HTTP) if socks else stage.ways.open(HTTP), "/")
    url = stage.url("/", by_name=socks is not None)
    proxy = ["--proxy", f"socks5h://{socks}"] if socks else []
    story.fact("page", shlex.join(["curl", *proxy, url]))
    with stage.curl(*proxy, url) as running:
        return running.body()


def _file(stage: Stage, story: Story) -> tuple[str, int]:
    size = stage.payload.size

    def progress(received: int) -> None:
        story.progress(f"{received * 100 // size:3} %  {mib(received)}")

    if curl.path() is None:
        story.fact("file", "GET /file.bin by the demo's own client")
        with stage.ways.open(HTTP) as connection:
            fetch = Fetch(connection, "/file.bin")
            fetch.read(size, progress)
            return fetch.rest(), fetch.received
    url = stage.url("/file.bin")
    story.fact("file", shlex.join(["curl", url]))
    with stage.curl(url) as running:
        running.read(size, progress)
        return running.rest(), running.received
