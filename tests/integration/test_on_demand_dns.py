"""Workloads that have a name instead of addresses (spec/dataplane.md §10.8, §18 `test_on_demand_dns_request`).

A name server of the test's own answers a real node's questions; what the service leads to is on loopback.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support.apps import Application, Heard, direct, hears_at_once
from tests.support.name_server import AAAA, NO_ERROR, NO_SUCH_NAME, A, NameServer
from tests.support.nodes import Mesh, Node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NETWORK = "127.10"
NAME = "web.example.com."


class World(NamedTuple):
    node: Node
    names: NameServer
    application: Application
    target: str


@contextmanager
def world(
    folder: Path, *, known: bool = True, code: int = NO_ERROR, **node: Any
) -> Iterator[World]:
    """A node, a service in front of a workload with a name, and who knows the name."""
    with ExitStack() as stack:
        mesh = stack.enter_context(Mesh(folder, network=NETWORK))
        mesh.workload("client")
        where = mesh.address()
        mesh.workload("web", protocol="TCP", workloadIps=[], hostname=NAME, uid="cluster//web")
        vip = mesh.address()
        mesh.service("web", {80: 8080}, "web", vips=[f"/{vip}"])
        answer = where if known else None
        names = stack.enter_context(NameServer(mesh.address(), answer, code))
        target = f"{vip}:80"
        resolver = {"servers": [names.address], "config": "/dev/null"}
        client = Node(mesh, "client", forwards=[target], resolver=resolver, **node)
        stack.enter_context(client)
        application = stack.enter_context(Application.listen(where, 8080))
        yield World(client, names, application, target)


def test_the_name_is_resolved_once_and_counted_each_time(tmp_path: Path) -> None:
    with world(tmp_path, workers=1) as lab:
        for _ in range(2):
            client, server = lab.application.pair(lambda: direct(lab.node.forwards[lab.target]))
            client.says(b"question").finishes()
            assert server.hears() == Heard(b"question", "FIN")
            server.says(b"answer").closes()
            assert client.hears() == Heard(b"answer", "FIN")
        # That there is no AAAA may be asked again: nothing said for how long that holds (RFC 2308 §5).
        assert lab.names.questions.count((NAME, A)) == 1
        assert set(lab.names.questions) == {(NAME, A), (NAME, AAAA)}
        series = list(lab.node.metrics().series("istio_on_demand_dns_total"))
        assert [(labels["hostname"], value) for labels, value in series] == [(NAME, 2)]
        assert series[0][0]["source_workload_namespace"] == "default"
        assert series[0][0]["source_principal"] == "unknown"


def test_only_ipv4_is_asked_for_where_there_is_no_ipv6(tmp_path: Path) -> None:
    with world(tmp_path, workers=1, ipv6=False) as lab:
        client, server = lab.application.pair(lambda: direct(lab.node.forwards[lab.target]))
        client.closes()
        server.closes()
        assert lab.names.questions == [(NAME, A)]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (NO_SUCH_NAME, "no ip addresses were resolved for workload: cluster//web"),
        (
            NO_ERROR,
            "ip addresses were resolved for workload cluster//web, "
            "but valid dns response had no A/AAAA records",
        ),
    ],
    ids=["no such name", "no addresses"],
)
def test_a_name_that_leads_nowhere_is_said_in_upstreams_words(
    tmp_path: Path, code: int, error: str
) -> None:
    with world(tmp_path, known=False, code=code) as lab:
        assert hears_at_once(lab.node.forwards[lab.target]).data == b""
        assert lab.node.access.wait_for("connection failed")["error"] == error


def test_a_system_that_cannot_resolve_says_why(tmp_path: Path) -> None:
    missing = {"config": str(tmp_path / "resolv.conf"), "servers": []}
    with Mesh(tmp_path, network=NETWORK) as mesh:
        mesh.workload("client")
        mesh.workload("web", protocol="TCP", workloadIps=[], hostname=NAME)
        vip = mesh.address()
        mesh.service("web", {80: 8080}, "web", vips=[f"/{vip}"])
        with Node(mesh, "client", forwards=[f"{vip}:80"], resolver=missing) as node:
            assert hears_at_once(node.forwards[f"{vip}:80"]).data == b""
            line = node.access.wait_for("connection failed")
            assert "no ip addresses were resolved for workload: " in line["error"]
            warning = node.access.wait_for(re.compile(r"^cannot resolve names: "))
            assert "resolv.conf: No such file or directory" in warning["message"]
