"""The soak's own parts: scripts that both ends agree on, and books that must balance."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from bench.soak import verdict, watch
from bench.soak.script import LARGEST, MIB, Order, Script
from bench.soak.verdict import Ends, Ledger
from tests.support.nodes import Metrics

PORTS = {80: "steady", 81: "torn"}


def test_both_ends_read_the_same_script_and_every_order_occurs() -> None:
    scripts = [Script.of(7, number) for number in range(2000)]
    assert scripts == [Script.of(7, number) for number in range(2000)]
    assert scripts != [Script.of(8, number) for number in range(2000)]
    assert {script.order for script in scripts} == set(Order)
    sizes = [flow.size for script in scripts for flow in (script.up, script.down)]
    assert min(sizes) == 0
    assert MIB < max(sizes) <= LARGEST
    for script in scripts:
        longest = script.up if script.order is Order.CLIENT_RESETS else script.down
        assert script.cut <= longest.size
        for flow in (script.up, script.down):
            assert len(flow.part(0, flow.size)) == flow.size


def test_a_log_is_summed_by_port_as_the_client_sees_it() -> None:
    lines = [
        {"message": "tls records: aes-gcm by aws-lc"},
        _line("outbound", 80, sent=7, received=9),
        _line("inbound", 80, sent=9, received=7),
        _line("inbound", 81, sent=1, received=2, error="reset"),
        _line("inbound", 5, sent=0, received=0),
    ]
    found = verdict.ledgers([json.dumps(line) for line in lines], PORTS)
    assert (found["steady"].connections, found["steady"].up, found["steady"].down) == (2, 14, 18)
    assert (found["torn"].up, found["torn"].down, dict(found["torn"].errors)) == (
        2,
        1,
        {"reset": 1},
    )
    assert found["other"].connections == 1


def test_books_of_whole_connections_must_be_equal() -> None:
    client = {"connections": 2, "sent": 10, "got": 20}
    ends = Ends(client=client, server={"connections": 2, "sent": 20, "got": 10})
    right = Ledger(connections=2, up=10, down=20)
    assert not list(verdict.steady(ends, {"near": right, "far": right}))
    for wrong in (replace(right, up=11), replace(right, down=19), replace(right, connections=3)):
        assert list(verdict.steady(ends, {"near": right, "far": wrong})) != []
    right.errors["reset"] += 1
    assert "nobody reset" in next(verdict.steady(ends, {"near": right}))


def test_bytes_of_torn_connections_may_be_lost_but_not_invented() -> None:
    client = {"connections": 1, "sent": 10, "got": 5}
    ends = Ends(client=client, server={"connections": 1, "sent": 8, "got": 7})
    near, far = Ledger(connections=1, up=9, down=6), Ledger(connections=1, up=8, down=7)
    assert not list(verdict.torn(ends, near, far))
    for wrong in (replace(far, up=10), replace(far, up=6), replace(far, down=5)):
        assert list(verdict.torn(ends, near, wrong)) != []


def test_counters_must_say_what_the_log_says() -> None:
    names = ("opened", "closed")
    text = "".join(f"istio_tcp_connections_{name}_total{{}} 1\n" for name in names)
    text += "istio_tcp_received_bytes_total{} 3\nistio_tcp_sent_bytes_total{} 4\n"
    right = Ledger(connections=1, up=3, down=4)
    assert not list(verdict.counters("near", Metrics(text), [right]))
    faults = list(verdict.counters("near", Metrics(text), [replace(right, up=4)]))
    assert faults == ["near: istio_tcp_received_bytes_total differ: 3, 4"]


def test_a_curve_is_judged_by_its_second_and_last_quarter() -> None:
    assert watch.growth([0, 0, 5, 5, 9, 9, 5, 6]) == 0.5
    with pytest.raises(ValueError, match="too short"):
        watch.growth([1.0, 2.0])


def _line(direction: str, port: int, *, sent: int, received: int, **more: str) -> dict[str, Any]:
    return {
        "message": "connection complete",
        "direction": direction,
        "dst.hbone_addr": f"127.0.0.1:{port}",
        "bytes_sent": sent,
        "bytes_recv": received,
        **more,
    }
