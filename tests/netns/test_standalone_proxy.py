"""Upstream's recipe for developers (spec/control.md §17.1): one dedicated proxy, a mesh file, nobody else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.netns.pods import Pod, PodNode, Pods
from tests.support.apps import through_socks5
from tests.support.nodes import START_DEADLINE, bound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.netns.namespaces import Host, Network

pytestmark = pytest.mark.root

LOCAL = "spiffe://cluster.local/ns/default/sa/default"


class Standalone(PodNode):
    """The recipe, and SOCKS5 as a way in."""

    def start(self) -> None:
        """Start it in its namespace."""
        self.host.call(self._start)

    def _start(self) -> None:
        self._mesh.write()
        environment = {
            "FAKE_CA": "true",
            "XDS_ADDRESS": "",
            "LOCAL_XDS_PATH": str(self._mesh.path),
            "PROXY_MODE": "dedicated",
            "PROXY_WORKLOAD_INFO": "default/local/default",
            "NODE_NAME": "here",
            "UNSTABLE_ENABLE_SOCKS5": "true",
            "LOG_FORMAT": "json",
        }
        self.launch("proxy", "ztunnel", environment=environment)
        self.bound = bound(self.access.wait_for("ready", within=START_DEADLINE))


class One(Pods):
    """A single pod."""

    def node(self, host: Host, workload: str, **settings: object) -> PodNode:
        """Its proxy."""
        return Standalone(host, self.mesh, workload, **settings)


@pytest.fixture
def pods(network: Network, tmp_path: Path) -> Iterator[One]:
    """Who removes what it holds."""
    with One(network, tmp_path) as pods:
        yield pods


@pytest.fixture
def local(pods: One) -> Iterator[Pod]:
    """The proxy runs."""
    pod = pods.add("local")
    pods.mesh.edit("local").update(serviceAccount="default", node="here")
    pods.mesh.service("web", {80: 8080}, "local")
    with pods.running():
        yield pod


def test_the_standalone_recipe_carries_traffic_through_a_tunnel(local: Pod, pods: One) -> None:
    web = (pods.mesh.vip("web.default.svc.cluster.local"), 80)
    with local.listens(8080) as application:
        dial = lambda: local.host.call(through_socks5, ("127.0.0.1", 15080), *web)  # noqa: E731
        near, far = application.pair(dial)
        near.says(b"hello").finishes()
        far.says(b"and back").finishes()
        assert far.hears().data == b"hello"
        assert near.hears().data == b"and back"
    for direction in ("outbound", "inbound"):
        line = local.node.access.wait_for("connection complete", direction=direction)
        assert (line["src.identity"], line["dst.identity"]) == (LOCAL, LOCAL)
        # In upstream's file mode nobody knows the service on the inbound side.
        assert line["dst.service"] == "web.default.svc.cluster.local"


def test_an_authority_of_its_own_is_warned_of_and_leaves_nothing(
    local: Pod, tmp_path: Path
) -> None:
    local.node.access.wait_for(
        re.compile("^FAKE_CA=true: certificates are signed by"), level="warn"
    )
    assert local.node.terminate() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mesh.yaml"]


def test_the_first_lines_are_upstreams(local: Pod) -> None:
    lines = [line for line in local.node.access.all() if line.get("scope") == "ztunnel"][:3]
    beginnings = (
        "version: version.BuildInfo{",
        "set file descriptor limits from ",
        "running with config: proxy: true\n",
    )
    for line, beginning in zip(lines, beginnings, strict=True):
        assert line["level"] == "info"
        assert str(line["message"]).startswith(beginning)
    assert "\nfakeCa: true\n" in str(lines[2]["message"])
