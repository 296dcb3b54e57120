"""The admin port of real nodes: what `istioctl`, `curl` and upstream's users see (spec/control.md §10, §11)."""

from __future__ import annotations

import json
import re
import select
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import istioctl
from tests.support.http import ask
from tests.support.nodes import Mesh, Node, as_text, eventually, http_get
from tests.support.two_nodes import two_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

VECTORS = Path(__file__).parents[1] / "vectors"
# What a dump has that upstream's of a node with one workload has not.
ADDITIONS = ("configs", "workloadState")
UPSTREAM: dict[str, Any] = json.loads((VECTORS / "config_dump" / "upstream.json").read_bytes())


class RecordedMesh(Mesh):
    """The mesh that upstream's dump was recorded in, told by a file."""

    def write(self) -> None:
        """What the dump says, as a mesh file says it: endpoints belong to the workloads there."""
        workloads = {w["uid"]: {**w, "services": {}} for w in UPSTREAM["workloads"]}
        services = []
        for service in UPSTREAM["services"]:
            name = f"{service['namespace']}/{service['hostname']}"
            for uid, endpoint in service["endpoints"].items():
                workloads[uid]["services"][name] = endpoint["port"]
            services.append({k: v for k, v in service.items() if k != "endpoints"})
        mesh = {
            "workloads": list(workloads.values()),
            "services": services,
            "policies": UPSTREAM["policies"],
        }
        self.write_text(json.dumps(mesh))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node in that mesh."""
    with RecordedMesh(tmp_path_factory.mktemp("recorded"), network="127.3") as mesh:
        own = mesh.workload("poda")
        with Node(mesh, "poda", admin=True, inbound=f"{own}:0") as node:
            yield node


@pytest.fixture(scope="module")
def dump(recorded: Node) -> dict[str, Any]:
    """What it knows."""
    answer = ask(recorded.bound["admin"], "GET", "/config_dump")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    read: dict[str, Any] = json.loads(answer.body)
    return read


def test_a_dump_has_upstreams_sections_and_spelling(recorded: Node) -> None:
    text = ask(recorded.bound["admin"], "GET", "/config_dump").body.decode()
    whole = json.loads(text)
    assert list(whole) == sorted([*UPSTREAM, *ADDITIONS])
    # Two spaces, sorted keys, no line end behind: as upstream's own, byte for byte.
    assert text == json.dumps(whole, indent=2, sort_keys=True, ensure_ascii=False)
    recorded_text = (VECTORS / "config_dump" / "upstream.json").read_text()
    assert recorded_text == json.dumps(UPSTREAM, indent=2, sort_keys=True, ensure_ascii=False)


@pytest.mark.parametrize("section", ["workloads", "services", "policies", "stagedServices"])
def test_the_same_mesh_is_dumped_as_upstream_dumps_it(dump: dict[str, Any], section: str) -> None:
    assert dump[section] == UPSTREAM[section]


def test_certificates_are_dumped_with_upstreams_keys(dump: dict[str, Any]) -> None:
    (entry,), (theirs,) = dump["certificates"], UPSTREAM["certificates"]
    assert entry["identity"] == "spiffe://cluster.local/ns/default/sa/sa-a" == theirs["identity"]
    assert list(entry) == list(theirs)
    assert entry["state"] == "Available"
    for ours in entry["certChain"] + entry["rootCerts"]:
        assert list(ours) == list(theirs["certChain"][0])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", ours["validFrom"])


def test_the_mesh_file_is_the_static_config(dump: dict[str, Any]) -> None:
    """Of a mesh from the control plane these are empty, as in upstream's dump."""
    static = dump["staticConfig"]
    assert list(static) == list(UPSTREAM["staticConfig"])
    assert {key: len(value) for key, value in static.items()} == {
        key: len(UPSTREAM[key]) for key in static
    }


def test_istioctl_prints_of_ours_what_it_prints_of_upstreams(recorded: Node) -> None:
    now = datetime.now(UTC)
    ours = istioctl.read(ask(recorded.bound["admin"], "GET", "/config_dump").body)
    theirs = istioctl.read(json.dumps(UPSTREAM).encode())
    for table in (
        istioctl.workload_table,
        istioctl.service_table,
        istioctl.policy_table,
        istioctl.connection_table,
    ):
        assert table(ours) == table(theirs)
    rows = [line.split() for line in istioctl.certificate_table(ours, now).splitlines()[1:]]
    assert [row[:4] for row in rows] == [
        ["spiffe://cluster.local/ns/default/sa/sa-a", "Leaf", "Available", "true"],
        ["spiffe://cluster.local/ns/default/sa/sa-a", "Root", "Available", "true"],
    ]


def test_istioctl_prints_the_secrets_of_ours_as_those_of_a_sidecar(recorded: Node) -> None:
    now = datetime.now(UTC)
    admin = recorded.bound["admin"]
    masked = "/config_dump?mask=dynamic_active_secrets,dynamic_warming_secrets"
    whole, alone = (ask(admin, "GET", target).body for target in ("/config_dump", masked))
    assert list(json.loads(alone)) == ["configs"]
    assert json.loads(alone)["configs"] == json.loads(whole)["configs"]
    table = istioctl.secret_table(alone, now)
    rows = [line.split() for line in table.splitlines()[1:]]
    assert [row[:-3] for row in rows] == [
        ["spiffe://cluster.local/ns/default/sa/sa-a", "Cert", "Chain", "ACTIVE", "true"],
        ["ROOTCA", "CA", "ACTIVE", "true"],
    ]
    # The same certificates as the other table shows.
    others = istioctl.certificate_table(istioctl.read(whole), now).splitlines()[1:]
    assert [row[-3:] for row in rows] == [line.split()[-3:] for line in others]


def test_live_connections_are_told_of_both_ends(tmp_path: Path) -> None:
    admin = {"admin": True}
    with two_nodes(tmp_path, network="127.3", near=admin, far=admin) as pair:
        near, far = pair.near, pair.far
        assert connections(far) == connections(near) == []
        client, server = pair.connects()
        client.says(b"hello")
        assert server.takes(5) == b"hello"
        ours = as_text(client.socket.getsockname())
        hbone = f"{far.address}:15008"
        (outbound,) = connections(near)
        assert outbound == ["client.default", "Outbound", ours, hbone, pair.target, "HBONE"]
        (inbound,) = connections(far)
        assert inbound[:2] == ["server.default", "Inbound"]
        assert (inbound[2], inbound[-1]) == (pair.target, "HBONE")
        client.closes()
        server.closes()
        for node in (near, far):
            eventually(partial(is_quiet, node), "they are gone")


def is_quiet(node: Node) -> bool:
    """Nobody is connected."""
    return connections(node) == []


def connections(node: Node) -> list[list[str]]:
    """The rows of `istioctl ztunnel-config connections --raw`, read as strictly as istioctl reads."""
    dump = istioctl.read(ask(node.bound["admin"], "GET", "/config_dump").body)
    (state,) = dump["workloadState"].values()
    assert state["state"] == "Up"
    assert state["info"]["namespace"] == "default"
    return [line.split() for line in istioctl.connection_table(dump).splitlines()[1:]]


def _recorded_answers() -> list[tuple[str, str, str]]:
    """Method, target and the whole answer, in the order in which they were recorded."""
    text = (VECTORS / "admin_http.txt").read_text()
    blocks = re.split(r"(?m)^\$ curl -i (.*)\n", text)[1:]
    found = []
    for command, answer in zip(blocks[::2], blocks[1::2], strict=True):
        words = command.split()
        method = words[1] if words[0] == "-X" else "GET"
        found.append((method, "/" + words[-1].partition("/")[2], answer))
    return found


def test_answers_are_upstreams_byte_for_byte(tmp_path: Path) -> None:
    with Mesh(tmp_path, network="127.3") as mesh:
        mesh.workload("web")
        with Node(mesh, "web", admin=True) as node:
            answers = _recorded_answers()
            assert len(answers) == 6
            for method, target, recorded in answers:
                ours = ask(node.bound["admin"], method, target)
                head, _, body = recorded.partition("\n\n")
                status, *headers = head.splitlines()
                expected = dict(line.split(": ") for line in headers if not line.startswith("date"))
                assert f"HTTP/1.1 {ours.status} {ours.reason}" == status, target
                assert ours.headers.pop("date").endswith(" GMT")
                assert list(ours.headers.items()) == list(expected.items()), target
                length = int(expected["content-length"])
                assert ours.body.decode() == body[:length], target


def test_levels_change_for_both_halves_while_the_node_runs(tmp_path: Path) -> None:
    more = {"admin": True, "drain": "0s"}
    with two_nodes(tmp_path, network="127.3", near=more) as pair:
        node = pair.near
        admin = node.bound["admin"]
        answer = ask(admin, "POST", "/logging?level=access=debug,warn")
        assert answer.body.endswith(b"access=debug,warn\n")
        near, far = pair.connects()
        near.closes()
        far.closes()
        node.access.wait_for("connection opened")
        said = len(node.log.text)
        ask(admin, "POST", "/quitquitquit")
        assert node.wait() == 0
        # Python's half is quiet: it would have said that it drains.
        assert [line for line in node.log.text[said:] if '"info"' in line] == []


def test_a_page_by_another_name_is_told_nothing(tmp_path: Path) -> None:
    with Mesh(tmp_path, network="127.3") as mesh:
        mesh.workload("web")
        with Node(mesh, "web", admin=True) as node:
            admin = node.bound["admin"]
            for target in ("/", "/config_dump", "/logging", "/quitquitquit"):
                assert ask(admin, "POST", target, host="evil.example").status == 403
                assert ask(admin, "POST", target, origin="http://evil.example").status == 403
            assert ask(admin, "GET", "/config_dump", host="localhost:15000").status == 200
            assert node.running


def test_a_node_file_opens_no_admin_port_unasked(tmp_path: Path) -> None:
    with Mesh(tmp_path, network="127.3") as mesh:
        mesh.workload("web")
        with Node(mesh, "web") as node:
            assert "admin" not in node.bound


class Crowd(Mesh):
    """A mesh of thousands, most of them elsewhere."""

    def write(self) -> None:
        """Write them behind the ones that a test knows."""
        elsewhere = [
            {"name": f"w{i}", "namespace": "n", "workloadIps": [f"10.0.{i >> 8}.{i & 255}"]}
            for i in range(2000)
        ]
        self.write_text(json.dumps({"workloads": [self.edit("web"), *elsewhere]}))


def test_many_dumps_at_once_do_not_hold_up_readiness(tmp_path: Path) -> None:
    with Crowd(tmp_path, network="127.3") as mesh:
        mesh.workload("web")
        with Node(mesh, "web", admin=True) as node, ThreadPoolExecutor(8) as crowd:
            admin = node.bound["admin"]
            asked = [crowd.submit(ask, admin, "GET", "/config_dump") for _ in range(16)]
            probes = sorted(probed(node) for _ in range(50))
            # The probe's own deadline; a machine's bad moment may be longer, the half of them is ours.
            assert probes[25] < 1.0
            answers = [each.result() for each in asked]
            assert {answer.status for answer in answers} <= {200, 503}
            whole = [json.loads(a.body) for a in answers if a.status == 200]
            assert whole
            assert all(len(each["workloads"]) == 2001 for each in whole)
            again = "there is room again"
            eventually(lambda: ask(admin, "GET", "/config_dump").status == 200, again)


def probed(node: Node) -> float:
    """How long the kubelet would have waited for a yes."""
    began = time.monotonic()
    assert http_get(node.bound["readiness"], "/healthz/ready") == "ready\n"
    return time.monotonic() - began


def test_a_stopped_control_side_is_seen_from_outside_when_it_goes_on(tmp_path: Path) -> None:
    lag = "ztunnel_control_loop_lag_seconds"
    with Mesh(tmp_path, network="127.3") as mesh:
        mesh.workload("web")
        with Node(mesh, "web", admin=True) as node:
            eventually(lambda: lag in metrics_of(node), "the loop has turned")
            began = time.monotonic()
            node.signal(signal.SIGSTOP)
            # The process's own time: nothing can be waited for while it stands still.
            select.select([], [], [], 2.0)
            node.signal(signal.SIGCONT)
            stood = time.monotonic() - began
            eventually(lambda: metrics_of(node)[lag] > 0.4 * stood, "the lag is shown")
            node.log.wait_for("the control side was held up; is the node short of processor time?")


def metrics_of(node: Node) -> dict[str, float]:
    """Those without labels."""
    text = http_get(node.bound["metrics"], "/metrics")
    return {name: float(value) for name, value in re.findall(r"^(\w+) (\S+)$", text, re.MULTILINE)}
