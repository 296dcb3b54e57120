"""Upstream's direct tests by their names: SOCKS5 in, an echo at the far end, no namespaces (spec/dataplane.md §18).

Upstream's fixture is one proxy at both ends of its tunnels; here each workload with a tunnel has its node. How a process
starts and ends (test_shutdown_*, test_quit_lifecycle, test_conflicting_bind_error_*): test_shutdown.py.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import Application, End, Heard, through_socks5
from tests.support.name_server import NameServer
from tests.support.nodes import Mesh, Node, eventually, http_get

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.nodes import Metrics

PORT = 8080
HELLO = b"hello world"
HOSTNAME = "reflect.internal."
# Dashboards may rely on these; everything else says that it is unstable.
STABLE = {
    "istio_build",
    "istio_tcp_connections_opened",
    "istio_tcp_connections_closed",
    "istio_tcp_received_bytes",
    "istio_tcp_sent_bytes",
    "process_max_fds",
    "process_open_fds",
}
# As upstream has.
TOKIO = 6


@dataclass(frozen=True)
class Direct:
    """A node with SOCKS5, and whom it may be asked for."""

    node: Node
    hbone: Application
    tcp: Application
    vip: str
    """In front of the workload with a tunnel."""
    hostname: str
    """The same service."""
    dns_vip: str
    """In front of a workload that has a name and no address."""

    def connects(self, application: Application, target: str, port: int) -> tuple[End, End]:
        """Both ends of a connection that has carried the words there and back."""
        dial = partial(through_socks5, self.node.socks5, target, port)
        client, server = application.pair(dial)
        client.says(HELLO)
        assert server.takes(len(HELLO)) == HELLO
        server.says(HELLO)
        assert client.takes(len(HELLO)) == HELLO
        return client, server

    def echoes(self, application: Application, target: str, port: int) -> None:
        """The same, ended in order."""
        client, server = self.connects(application, target, port)
        client.finishes()
        assert server.hears() == Heard(b"", "FIN")
        server.closes()
        assert client.hears() == Heard(b"", "FIN")


@contextmanager
def running(folder: Path, **place: str) -> Iterator[Direct]:
    """Nodes, echoes and a name server; `place` goes into both workloads with a tunnel."""
    with ExitStack() as stack:
        mesh = stack.enter_context(Mesh(folder, network="127.32"))
        mesh.workload("source", **place)
        hbone = mesh.workload("hbone", **place)
        tcp = mesh.workload("tcp", protocol="TCP")
        mesh.workload("named", protocol="TCP", workloadIps=[], hostname=f"{tcp}.{HOSTNAME}")
        hostname = mesh.service("local-vip", {80: PORT}, "hbone")
        dns = mesh.service("dns-vip", {80: PORT}, "named")
        names = stack.enter_context(NameServer(mesh.address(), tcp))
        stack.enter_context(Node(mesh, "hbone"))
        resolver = {"servers": [names.address], "config": "/dev/null"}
        node = stack.enter_context(Node(mesh, "source", socks5=True, resolver=resolver))
        yield Direct(
            node,
            stack.enter_context(Application.listen(hbone, PORT)),
            stack.enter_context(Application.listen(tcp, PORT)),
            mesh.vip(hostname),
            hostname,
            mesh.vip(dns),
        )


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Direct]:
    """Workloads that are on no node."""
    with running(tmp_path_factory.mktemp("direct")) as direct:
        yield direct


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Direct]:
    """Workloads that are on a node by the name of `local`."""
    with running(tmp_path_factory.mktemp("local"), node="local") as local:
        yield local


def test_hbone_request(direct: Direct) -> None:
    is_reached_by_tunnel(direct)


def test_hbone_request_local(local: Direct) -> None:
    is_reached_by_tunnel(local)


def is_reached_by_tunnel(direct: Direct) -> None:
    """Also: what the process says of itself is more than nothing."""
    direct.echoes(direct.hbone, *direct.hbone.address)
    target = "{}:{}".format(*direct.hbone.address)
    line = direct.node.access.wait_for("connection complete", dst_hbone_addr=target)
    assert "error" not in line
    of_process = [
        (name, value) for name, _, value in said(direct).samples if name.startswith("process_")
    ]
    assert of_process
    assert all(value > 0 for _, value in of_process), of_process


def test_tcp_request(direct: Direct) -> None:
    is_reached_plainly(direct)


def test_tcp_request_local(local: Direct) -> None:
    is_reached_plainly(local)


def is_reached_plainly(direct: Direct) -> None:
    """Without a tunnel, since the workload takes none."""
    direct.echoes(direct.tcp, *direct.tcp.address)
    target = "{}:{}".format(*direct.tcp.address)
    line = direct.node.access.wait_for("connection complete", dst_addr=target)
    assert not {"dst.hbone_addr", "error"} & line.keys()


def test_vip_request(direct: Direct) -> None:
    is_reached_by_service(direct, direct.vip)


def test_vip_request_local(local: Direct) -> None:
    is_reached_by_service(local, local.vip)


def test_hostname_request_local(local: Direct) -> None:
    is_reached_by_service(local, local.hostname)


def is_reached_by_service(direct: Direct, target: str) -> None:
    """By its address or by its name."""
    after = len(direct.node.access)
    direct.echoes(direct.hbone, target, 80)
    line = direct.node.access.wait_for(
        "connection complete", after=after, dst_service=direct.hostname
    )
    assert line["dst.hbone_addr"] == "{}:{}".format(*direct.hbone.address)
    assert "error" not in line


def test_on_demand_dns_request(direct: Direct) -> None:
    for _ in range(2):
        direct.echoes(direct.tcp, direct.dns_vip, 80)
    series = list(said(direct).series("istio_on_demand_dns_total"))
    assert [value for _, value in series] == [2]
    assert series[0][0]["hostname"] == f"{direct.tcp.address[0]}.{HOSTNAME}"


def test_stats_exist(direct: Direct) -> None:
    direct.echoes(direct.hbone, *direct.hbone.address)
    text = http_get(direct.node.bound["metrics"], "/metrics")
    help_of = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    assert said(direct).total("istio_build") == 1
    stable = {name for name, text in help_of.items() if "unstable" not in text.lower()}
    runtime = {name for name in stable if name.startswith("tokio_")}
    assert stable - runtime == STABLE
    assert len(runtime) == TOKIO


def test_tcp_connections_metrics(direct: Direct) -> None:
    opened, closed = (f"istio_tcp_connections_{end}_total" for end in ("opened", "closed"))
    before = settled(direct)
    client, server = direct.connects(direct.hbone, *direct.hbone.address)
    now = said(direct)
    assert now.total(opened) - before.total(opened) == 1
    assert now.total(closed) == before.total(closed)
    client.closes()
    server.closes()
    eventually(lambda: said(direct).total(closed) - before.total(closed) == 1, "it is closed")
    assert said(direct).total(opened) - before.total(opened) == 1


def test_tcp_bytes_metrics(direct: Direct) -> None:
    received, sent = (f"istio_tcp_{way}_bytes_total" for way in ("received", "sent"))
    before = settled(direct)
    direct.echoes(direct.hbone, *direct.hbone.address)
    eventually(
        lambda: (
            (
                said(direct).total(received) - before.total(received),
                said(direct).total(sent) - before.total(sent),
            )
            == (11, 11)
        ),
        "eleven bytes each way are counted",
    )


def settled(direct: Direct) -> Metrics:
    """What it has counted when every connection so far has ended for it, too."""

    def ended() -> Metrics | None:
        seen = said(direct)
        opened, closed = (
            seen.total(f"istio_tcp_connections_{end}_total") for end in ("opened", "closed")
        )
        return seen if opened == closed else None

    eventually(ended, "every connection so far has ended")
    return said(direct)


def said(direct: Direct) -> Metrics:
    """What the node with SOCKS5 has counted, now."""
    return direct.node.metrics()
