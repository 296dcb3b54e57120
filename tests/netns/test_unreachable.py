"""Connections that cannot be made: the application gets a RST, the log the reason, both within a deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.netns.capture import blackhole, heal
from tests.netns.pods import HOSTS
from tests.support.apps import Heard

if TYPE_CHECKING:
    from tests.netns.pods import Pair

pytestmark = pytest.mark.root

# `QUICK` in pods.py says 2 s for a dial.
DIAL = 2.0
# What slow cores may add; without a deadline the kernel alone would give up, after two minutes.
SLACK = 15.0
RESET = Heard(b"", "ECONNRESET")


def test_a_service_without_endpoints_is_no_service(pair: Pair) -> None:
    empty = pair.pods.mesh.vip(pair.empty)
    began = time.monotonic()
    assert pair.client.tries((empty, 80)) == RESET
    assert time.monotonic() - began < SLACK
    line = pair.client.node.access.wait_for("connection failed", dst_addr=f"{empty}:80")
    assert line["error"] == f"no healthy upstream: {empty}:80"


def test_a_pod_that_does_not_answer_is_given_up_at_the_dials_deadline(pair: Pair) -> None:
    blackhole(pair.stranger)
    try:
        began = time.monotonic()
        assert pair.client.tries((pair.unknown, 8080)) == RESET
        took = time.monotonic() - began
    finally:
        heal(pair.stranger)
    assert DIAL * 0.9 < took < DIAL + SLACK
    line = pair.client.node.access.wait_for("connection complete", dst_addr=f"{pair.unknown}:8080")
    assert line["error"] == "io error: deadline has elapsed"


def test_a_node_that_does_not_answer_is_given_up_at_the_dials_deadline(pair: Pair) -> None:
    began = time.monotonic()
    assert pair.client.tries((f"{HOSTS}.77", 8080)) == RESET
    assert DIAL * 0.9 < time.monotonic() - began < DIAL + SLACK
    line = pair.client.node.access.wait_for("connection complete", dst_addr=f"{HOSTS}.77:15008")
    assert line["error"] == (
        "connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: "
        "deadline has elapsed"
    )
    assert pair.client.node.metrics().total(
        "ztunnel_refusals_total", side="outbound", reason="dial_timeout"
    )


def test_no_route_for_the_node_is_known_at_once(pair: Pair) -> None:
    client = pair.client
    # Only what the node sends (its mark says so) finds no way: the application's own route stays.
    rule = ("fwmark", "0x539/0xfff", "to", "10.77.0.66", "pref", "100", "unreachable")
    client.host.ip("rule", "add", *rule)
    try:
        began = time.monotonic()
        assert client.tries(("10.77.0.66", 8080)) == RESET
        assert time.monotonic() - began < SLACK
    finally:
        client.host.ip("rule", "del", *rule)
    line = client.node.access.wait_for("connection complete", dst_addr="10.77.0.66:8080")
    assert "Network is unreachable" in line["error"]


def test_a_closed_port_outside_the_mesh_is_refused(pair: Pair) -> None:
    assert pair.client.tries((pair.unknown, 8099)) == RESET
    line = pair.client.node.access.wait_for("connection complete", dst_addr=f"{pair.unknown}:8099")
    assert "Connection refused" in line["error"]


def test_a_closed_port_of_a_pod_is_refused(pair: Pair) -> None:
    assert pair.client.tries((pair.server.address, 8099)) == RESET
    line = pair.server.node.access.wait_for(
        "connection complete", dst_hbone_addr=f"{pair.server.address}:8099"
    )
    assert "Connection refused" in line["error"]
    line = pair.client.node.access.wait_for(
        "connection complete", dst_hbone_addr=f"{pair.server.address}:8099"
    )
    assert line["error"] == "http status: 503 Service Unavailable"


def test_curl_says_what_happened(pair: Pair) -> None:
    done = pair.client.host.run("curl", "-sS", f"http://{pair.server.address}:8099/")
    # 56: failure in receiving; 7 if the reset comes before curl has looked at its connect. An empty answer (52) would be
    # what a FIN looks like.
    assert done.returncode in {7, 56}, done
    assert done.returncode == 7 or "reset by peer" in done.stderr
