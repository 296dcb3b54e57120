"""What a proxy counted of one connection, and that it says the same in every encoding."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.support.encodings import decoded
from tests.support.http import ask
from tests.support.nodes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.netns.pods import PodNode

# `hello world` there, the same twice back: every metric test of upstream's.
ONE_HELLO = {
    "connections_opened": 1.0,
    "connections_closed": 1.0,
    "received_bytes": 11.0,
    "sent_bytes": 22.0,
}
ENCODINGS = ("gzip", "zstd", "br")


@contextlib.contextmanager
def counts(node: PodNode, **labels: str) -> Iterator[None]:
    """By the end of the block, or soon after, the proxy has counted one such connection and no more."""

    def now() -> dict[str, float]:
        seen = node.metrics()
        return {name: seen.total(f"istio_tcp_{name}_total", **labels) for name in ONE_HELLO}

    before = now()
    yield
    eventually(
        lambda: {name: value - before[name] for name, value in now().items()} == ONE_HELLO,
        f"{node.workload} counted one connection of {labels}",
    )
    says_the_same_in_every_encoding(node)


def says_the_same_in_every_encoding(node: PodNode) -> None:
    """Of what only connections change; the process's own figures never stand still."""
    plain = _exposition(node, "identity")
    assert plain
    for encoding in ENCODINGS:
        assert _exposition(node, encoding) == plain, encoding


def _exposition(node: PodNode, encoding: str) -> list[str]:
    answer = node.host.call(ask, node.bound["metrics"], "GET", "/metrics", Accept_Encoding=encoding)
    assert answer.status == 200
    assert answer.headers.get("content-encoding", "identity") == encoding
    body = answer.body if encoding == "identity" else decoded(answer.body, encoding)
    return [line for line in body.decode().splitlines() if line.startswith("istio_tcp_")]
