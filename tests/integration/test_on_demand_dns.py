"""Workloads that have a name instead of addresses (spec/dataplane.md §10.8, §18 `test_on_demand_dns_request`).

A name server of the test's own answers a real node's questions; what the service leads to is on loopback.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import pytest

from tests.support.apps import Application, Heard, direct, hears_at_once
from tests.support.nodes import Mesh, Node

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

NETWORK = "127.10"
NAME = "web.example.com."
A, AAAA = 1, 28
NO_ERROR, NO_SUCH_NAME = 0, 3


class NameServer:
    """Answers A with one address, all else with nothing; `code` goes into every answer (RFC 1035 §4)."""

    def __init__(self, host: str, answer: str | None, code: int = NO_ERROR) -> None:
        self.questions: list[tuple[str, int]] = []
        self._answer, self._code = answer, code
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self.address = "{}:{}".format(*self._socket.getsockname())
        self._thread = threading.Thread(target=self._serve, name="name server")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        # A datagram of no bytes is the end.
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            if not query:
                return
            self._socket.sendto(self._reply(query), client)

    def _reply(self, query: bytes) -> bytes:
        labels, at = [], 12
        while length := query[at]:
            labels.append(query[at + 1 : at + 1 + length].decode())
            at += 1 + length
        (kind,) = struct.unpack("!H", query[at + 1 : at + 3])
        question = query[12 : at + 5]
        self.questions.append((".".join(labels) + ".", kind))
        found = kind == A and self._answer is not None
        head = struct.pack(
            "!HHHHHH", *struct.unpack("!H", query[:2]), 0x8180 | self._code, 1, int(found), 0, 0
        )
        if not found or self._answer is None:
            return head + question
        # The name by its place in the question; IN, an hour.
        record = struct.pack("!HHHIH", 0xC00C, A, 1, 3600, 4) + socket.inet_aton(self._answer)
        return head + question + record


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
