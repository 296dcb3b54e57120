"""Whether all that was seen fits together: the applications' counts, the nodes' counters and logs. Arithmetic only.

Of a connection whose bytes all arrive, everybody has the same numbers. Of one that is reset, bytes are lost on the way
by right, so the numbers must only fall from sender to receiver:
application sent >= the sender's node >= the receiver's node >= application got.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.support.nodes import Metrics


@dataclass(kw_only=True)
class Ledger:
    """What one node's access log says of the connections to one port."""

    connections: int = 0
    up: int = 0
    down: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    sample: str = ""
    """The first line, as an example."""


def ledgers(lines: Iterable[str], ports: Mapping[int, str]) -> dict[str, Ledger]:
    """One ledger for each name in `ports`, and `other` for connections to none of them."""
    found = {name: Ledger() for name in (*ports.values(), "other")}
    for line in lines:
        entry: dict[str, Any] = json.loads(line)
        if not str(entry["message"]).startswith("connection "):
            continue  # the data plane's own words, which go to the same file
        port = str(entry.get("dst.hbone_addr", "")).rpartition(":")[2]
        ledger = found[ports.get(int(port) if port.isdigit() else 0, "other")]
        up, down = int(entry.get("bytes_sent", 0)), int(entry.get("bytes_recv", 0))
        if entry.get("direction") == "inbound":
            up, down = down, up
        ledger.connections += 1
        ledger.sample = ledger.sample or line.strip()
        ledger.up += up
        ledger.down += down
        if "error" in entry:
            ledger.errors[str(entry["error"])] += 1
    return found


@dataclass(frozen=True, kw_only=True)
class Ends:
    """What both applications counted of one kind of connections."""

    client: Mapping[str, int]
    server: Mapping[str, int]


def steady(ends: Ends, nodes: Mapping[str, Ledger]) -> Iterator[str]:
    """What does not fit, of connections whose bytes all arrive."""
    client, server = ends.client, ends.server
    yield from _unless_equal(
        "steady connections", client["connections"], server["connections"],
        *(ledger.connections for ledger in nodes.values()),
    )  # fmt: skip
    yield from _unless_equal(
        "steady bytes up", client["sent"], server["got"], *(ledger.up for ledger in nodes.values())
    )
    yield from _unless_equal(
        "steady bytes down",
        client["got"],
        server["sent"],
        *(ledger.down for ledger in nodes.values()),
    )
    for name, ledger in nodes.items():
        for error, times in ledger.errors.items():
            yield f"{name}: a connection that nobody reset failed, {times} times: {error}"


def torn(ends: Ends, near: Ledger, far: Ledger) -> Iterator[str]:
    """What does not fit, of connections that are reset."""
    client, server = ends.client, ends.server
    yield from _unless_equal(
        "torn connections", client["connections"], server["connections"], near.connections, far.connections
    )  # fmt: skip
    yield from _unless_falling("torn bytes up", client["sent"], near.up, far.up, server["got"])
    yield from _unless_falling(
        "torn bytes down", server["sent"], far.down, near.down, client["got"]
    )


def counters(name: str, metrics: Metrics, of_log: Iterable[Ledger]) -> Iterator[str]:
    """What does not fit between a node's counters and its access log."""
    ledgers = list(of_log)
    connections = sum(ledger.connections for ledger in ledgers)
    expected = {
        "istio_tcp_connections_opened_total": connections,
        "istio_tcp_connections_closed_total": connections,
        "istio_tcp_received_bytes_total": sum(ledger.up for ledger in ledgers),
        "istio_tcp_sent_bytes_total": sum(ledger.down for ledger in ledgers),
        "istio_tcp_sockets_open": 0,
        "ztunnel_access_log_lines_dropped_total": 0,
        "ztunnel_log_lines_dropped_total": 0,
    }
    for metric, value in expected.items():
        yield from _unless_equal(f"{name}: {metric}", int(metrics.total(metric)), value)


def _unless_equal(what: str, *values: int) -> Iterator[str]:
    if len(set(values)) > 1:
        yield f"{what} differ: {', '.join(f'{value:,}' for value in values)}"


def _unless_falling(what: str, *values: int) -> Iterator[str]:
    if any(before < after for before, after in pairwise(values)):
        yield f"{what} grow on their way: {', '.join(f'{value:,}' for value in values)}"
