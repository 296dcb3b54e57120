"""Golden files: the same connections as upstream's, told the same way.

`tests/vectors/upstream` holds what two of upstream's nodes wrote on a small mesh: an echo by pod address and by
service, a closed port, a plain connection out of the mesh, one that policy denies. Here two of our nodes carry the
same connections between workloads of the same names; what they tell must be equal but for addresses, times and ports.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import Application
from tests.support.nodes import DEADLINE, ROOT, Mesh, Node, eventually, http_get

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.nodes import Address

GOLDEN = ROOT / "tests" / "vectors" / "upstream"
ECHO, CLOSED, DENIED, PLAIN = 7300, 7999, 7301, 18099
# Without namespaces, tunnels come from the loopback interface's own address: here it is poda's second one.
TUNNELS = "127.0.0.1"
LOCALITY = {"region": "r1", "zone": "z2", "subzone": ""}

Line = dict[str, Any]


@dataclass(frozen=True)
class Told:
    """What both nodes told of the connections."""

    near: Node
    far: Node
    renamed: dict[str, str]
    """Our addresses, and those of the recording."""

    def lines(self, node: Node) -> list[Line]:
        """The access log, comparable."""
        return [comparable(line, self.renamed) for line in node.access.all("connection complete")]

    def has_ended(self, node: Node, count: int) -> bool:
        """Whether so many connections have."""
        return len(self.lines(node)) == count


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Both nodes after the connections of the recording, still running."""
    with ExitStack() as stack:
        mesh = stack.enter_context(Mesh(tmp_path_factory.mktemp("golden"), network="127.31"))
        service = recorded_mesh(mesh)
        a, b, plain = (mesh.address_of(name) for name in ("poda", "podb", "zt-b"))
        targets = {
            "pod": f"{b}:{ECHO}",
            "service": f"{service}:80",
            "closed": f"{b}:{CLOSED}",
            "plain": f"{plain}:{PLAIN}",
            "denied": f"{b}:{DENIED}",
        }
        far = stack.enter_context(Node(mesh, "podb"))
        near = stack.enter_context(Node(mesh, "poda", forwards=list(targets.values())))
        echo = stack.enter_context(Application.listen(b, ECHO))
        away = stack.enter_context(Application.listen(plain, PLAIN))

        def dial(name: str) -> Callable[[], socket.socket]:
            return lambda: connect(near.forwards[targets[name]], a)

        for name, application, counts in (
            ("pod", echo, (6, 5)),
            ("service", echo, (6, 5)),
            ("plain", away, (332, 75)),
        ):
            exchange(application, dial(name), *counts)
        for name in ("closed", "denied"):
            with dial(name)() as refused:
                refused.settimeout(DEADLINE)
                with pytest.raises(ConnectionResetError):
                    refused.recv(1)
        names = {a: "10.66.0.2", TUNNELS: "10.66.0.2", b: "10.66.0.3", plain: "10.66.0.1"}
        told = Told(near, far, names)
        for node, count in ((near, 5), (far, 4)):
            eventually(partial(told.has_ended, node, count), f"{count} ends at {node.workload}")
        yield told


def recorded_mesh(mesh: Mesh) -> str:
    """The workloads that the recorded connections meet; gives the service's name."""
    common = {"clusterId": "Kubernetes", "canonicalRevision": "latest"}
    mesh.workload(
        "poda",
        serviceAccount="sa-a",
        workloadName="poda",
        canonicalName="a",
        locality={**LOCALITY, "zone": "z1"},
        **common,
    )
    mesh.edit("poda")["workloadIps"].append(TUNNELS)
    mesh.workload(
        "podb",
        serviceAccount="sa-b",
        workloadName="podb",
        canonicalName="echo",
        locality=LOCALITY,
        **common,
    )
    mesh.workload(
        "zt-b",
        protocol="TCP",
        namespace="istio-system",
        serviceAccount="ztunnel",
        workloadName="zt-b",
        canonicalName="ztunnel",
        locality=LOCALITY,
        **common,
    )
    mesh.policies.append(
        {
            "name": "deny-7301",
            "namespace": "default",
            "scope": "Namespace",
            "action": "Deny",
            "rules": [[[{"destinationPorts": [DENIED]}]]],
        }
    )
    return mesh.service("echo", {80: ECHO}, "podb")


def connect(to: Address, source: str) -> socket.socket:
    """A connection of poda's application."""
    return socket.create_connection(to, DEADLINE, source_address=(source, 0))


def exchange(
    application: Application, dial: Callable[[], socket.socket], there: int, back: int
) -> None:
    """One connection that carries so many bytes either way and ends in order."""
    client, server = application.pair(dial)
    client.says(b"x" * there).finishes()
    assert server.hears().data == b"x" * there
    server.says(b"y" * back).finishes()
    assert client.hears().data == b"y" * back


def comparable(line: Line, renamed: dict[str, str]) -> Line:
    """A line without what differs by nature. The order of its fields stays."""

    def address(text: str) -> str:
        host, _, port = text.rpartition(":")
        return f"{renamed.get(host, host)}:{port}"

    changes = {
        "time": "",
        "duration": "0ms",
        "src.addr": address(line["src.addr"]).rpartition(":")[0],
        "dst.addr": address(line["dst.addr"]),
    }
    if "dst.hbone_addr" in line:
        changes["dst.hbone_addr"] = address(line["dst.hbone_addr"])
    return line | changes


def golden_text(name: str) -> str:
    """A recorded file."""
    return (GOLDEN / name).read_text()


def golden_lines(name: str, *ports: int) -> list[Line]:
    """The recorded access log: one connection to each of the ports, in their order."""
    lines = [json.loads(line) for line in golden_text(name).splitlines()]
    access = [comparable(line, {}) for line in lines if line["scope"] == "access"]
    ended = [line for line in access if "drain" not in line.get("error", "")]
    found: list[Line] = []
    for port in ports:
        fitting = [line for line in ended if target(line).endswith(f":{port}")]
        assert fitting, port
        found.append(fitting[ports[: len(found)].count(port)])
    return found


def target(line: Line) -> str:
    """Where the connection went."""
    return str(line.get("dst.hbone_addr", line["dst.addr"]))


def as_text(lines: list[Line]) -> list[str]:
    """For comparison: the order of fields counts."""
    return sorted(json.dumps(line) for line in lines)


@pytest.mark.parametrize(
    ("side", "recording", "ports"),
    [
        ("near", "node-a-log-json.txt", (ECHO, ECHO, CLOSED, PLAIN, DENIED)),
        ("far", "node-b-log-json.txt", (ECHO, ECHO, CLOSED, DENIED)),
    ],
)
def test_the_access_log_is_upstreams(
    told: Told, side: str, recording: str, ports: tuple[int, ...]
) -> None:
    node = {"near": told.near, "far": told.far}[side]
    assert as_text(told.lines(node)) == as_text(golden_lines(recording, *ports))


def operational(line: Line) -> Line:
    """An operational line without its numbers."""
    words = re.sub(r"\(.*?\)|[0-9]+", "#", line["message"])
    address = {"address": "#"} if "address" in line else {}
    return line | {"time": "", "message": words} | address


def test_the_lines_of_a_start_are_upstreams(told: Told) -> None:
    recorded = [json.loads(line) for line in golden_text("node-a-log-json.txt").splitlines()]
    golden = [json.dumps(operational(line)) for line in recorded if line["scope"] != "access"]
    ours = [line for line in told.near.access.all() if line.get("scope") != "access"]
    # Loopback listeners are not transparent where nobody may make them so.
    for line in ours:
        if "transparent" in line:
            line["transparent"] = True
    told_so = [json.dumps(operational(line)) for line in ours]
    for message, more in (
        ("listener established", {"component": "inbound"}),
        ("Task 'proxy' complete", {}),
        ("no dns proxy created", {}),
        ("listener established", {"component": "stats"}),
        ("listener established", {"component": "readiness"}),
        ("Task 'state manager' complete", {}),
    ):
        (line,) = [
            line
            for line in recorded
            if line["message"].startswith(message) and more.items() <= line.items()
        ]
        assert json.dumps(operational(line)) in told_so, message
    # And in that order, as far as both have them.
    common = [line for line in told_so if line in golden]
    assert common == [line for line in golden if line in common]


def samples(text: str, family: str) -> dict[str, float]:
    """Labels and values of a family."""
    found = re.findall(rf"^{family}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


def golden_metrics(node: str) -> str:
    """The recorded exposition."""
    return golden_text(f"{node}-metrics.txt")


@pytest.mark.parametrize(("side", "recording"), [("near", "node-a"), ("far", "node-b")])
def test_every_label_set_of_these_connections_is_upstreams(
    told: Told, side: str, recording: str
) -> None:
    node = {"near": told.near, "far": told.far}[side]
    ours, golden = http_get(node.bound["metrics"], "/metrics"), golden_metrics(recording)
    for family in (
        "istio_tcp_connections_opened_total",
        "istio_tcp_connections_closed_total",
        "istio_tcp_connections_failed_total",
        "istio_tcp_received_bytes_total",
        "istio_tcp_sent_bytes_total",
    ):
        shown = samples(ours, family)
        assert shown, family
        # The recording has connections of its own: to istiod, and one that timed out.
        assert set(shown) <= set(samples(golden, family)), family
    opened = samples(ours, "istio_tcp_connections_opened_total")
    assert sum(opened.values()) == {"near": 5, "far": 4}[side]
    (build,) = re.findall(r"^istio_build.*$", ours, re.MULTILINE)
    # Told by a file, a node knows of no Istio: its tag is its own version.
    assert re.fullmatch(r'istio_build\{component="ztunnel",tag="[^"]+"\} 1', build)


def test_the_families_are_upstreams_in_its_order_and_all_others_are_unstable(told: Told) -> None:
    def heads(text: str) -> list[str]:
        return re.findall(r"^# (?:HELP|TYPE|UNIT) .*$", text, re.MULTILINE)

    # What the control plane's stream would count.
    missing = "istio_xds_"
    golden = [
        line
        for line in heads(golden_metrics("node-a"))
        if not line.split(" ")[2].startswith(missing)
    ]
    ours = heads(http_get(told.near.bound["metrics"], "/metrics"))
    assert [line for line in ours if line in golden] == golden
    others = [line for line in ours if line not in golden and line.startswith("# HELP")]
    assert all("(unstable)" in line for line in others), others


def answer(to: Address, path: str, method: str = "GET", **headers: str) -> tuple[str, bytes]:
    """Head without the date, and body."""
    lines = [f"{method} {path} HTTP/1.1", "host: x", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    with socket.create_connection(to, DEADLINE) as connection:
        connection.settimeout(DEADLINE)
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        data = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = data.partition(b"\r\n\r\n")
    kept = [
        line
        for line in head.decode().split("\r\n")
        if not line.startswith(("date:", "connection:"))
    ]
    return "\n".join(kept), body


def golden_answer(request: str) -> tuple[str, bytes]:
    """What upstream answered to `curl -i REQUEST`."""
    parts = golden_text("http.txt").split("$ curl -i ")
    (found,) = [part for part in parts if part.startswith(f"{request}\n")]
    head, _, body = found.removeprefix(f"{request}\n").partition("\n\n")
    kept = [line for line in head.split("\n") if not line.startswith("date:")]
    # The recording has two line feeds behind every answer.
    return "\n".join(kept), body.removesuffix("\n\n").encode()


@pytest.mark.parametrize(
    ("port", "request_line"),
    [
        ("readiness", "15021/healthz/ready"),
        ("readiness", "15021/"),
        ("metrics", "15020/nothing"),
    ],
)
def test_the_answers_of_the_http_ports_are_upstreams(
    told: Told, port: str, request_line: str
) -> None:
    path = "/" + request_line.partition("/")[2]
    head, body = answer(told.near.bound[port], path)
    golden_head, golden_body = golden_answer(request_line)
    assert (head, body) == (golden_head, golden_body)


def chunks(body: bytes) -> bytes:
    """What a body in chunks holds."""
    data = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        data, body = data + rest[:length], rest[length + 2 :]
    return data


@pytest.mark.parametrize(
    ("encoding", "decompress"),
    [("gzip", gzip.decompress), ("deflate", zlib.decompress)],
)
def test_a_compressed_exposition_is_the_same_text(
    told: Told, encoding: str, decompress: Callable[[bytes], bytes]
) -> None:
    port = told.near.bound["metrics"]
    head, body = answer(port, "/stats/prometheus", accept_encoding=f"{encoding};q=0.5")
    assert f"\ncontent-encoding: {encoding}" in head
    text = decompress(chunks(body)).decode()
    plain = answer(port, "/metrics")[1].decode()
    counters = re.compile(r"^istio_tcp_(?:conn|rec|sent).*$", re.MULTILINE)
    assert counters.findall(text) == counters.findall(plain)
    assert len(counters.findall(text)) > 10
    assert text.endswith("# EOF\n")
    assert len(body) * 5 < len(plain)
