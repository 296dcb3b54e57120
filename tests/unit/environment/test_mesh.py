"""The mesh that the environment leads to, in upstream's spelling, and who we are in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ztunnel.dataplane.handle import TYPE_AUTHORIZATION, TYPE_SERVICE, TYPE_WORKLOAD
from ztunnel.environment.config import Machine
from ztunnel.environment.mesh import load_mesh
from ztunnel.environment.proxy import ProxySettings, read_environment
from ztunnel.errors import MeshFileError
from ztunnel.settings import CaSettings

if TYPE_CHECKING:
    from pathlib import Path

MESH = """
workloads:
- name: web
  namespace: default
  serviceAccount: web-account
  trustDomain: example.org
  uid: cluster1//v1/Pod/default/web
  workloadIps: ["10.0.0.1"]
  protocol: HBONE
  node: node-1
  network: ""
  services:
    "default/web.default.svc.cluster.local":
      80: 8080
- name: other
  namespace: default
  uid: cluster1//v1/Pod/default/other
  workloadIps: ["10.0.0.2"]
  services: {}
services:
- name: web
  namespace: default
  hostname: web.default.svc.cluster.local
  vips: ["/10.10.0.1"]
  ports: {80: 8080}
policies:
- name: allow-web
  namespace: default
  scope: Namespace
  action: Allow
  dryRun: false
  rules:
  - - - principals: [!Exact example.org/ns/default/sa/web-account]
        notNamespaces: [{Prefix: kube-}]
        notDestinationPorts: [9999]
"""


def settings(path: Path | str, **more: str) -> ProxySettings:
    where = {"LOCAL_XDS": path} if isinstance(path, str) else {"LOCAL_XDS_PATH": str(path)}
    environ = {
        "PROXY_MODE": "dedicated",
        "PROXY_WORKLOAD_INFO": "default/web/web-account",
        "XDS_ADDRESS": "",
        "CA_ADDRESS": "ca:1",
        "CA_ROOT_CA": "SYSTEM",
        **where,
        **more,
    }
    return read_environment(environ, Machine(cores=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "mesh.yaml"
    path.write_text(MESH)
    return path


def test_a_file_in_upstreams_spelling_becomes_resources(path: Path) -> None:
    mesh, identity = load_mesh(settings(path))
    assert str(identity) == "spiffe://example.org/ns/default/sa/web-account"
    assert [(r.type_url, r.name) for r in mesh.document.resources] == [
        (TYPE_WORKLOAD, "cluster1//v1/Pod/default/web"),
        (TYPE_WORKLOAD, "cluster1//v1/Pod/default/other"),
        (TYPE_SERVICE, "default/web.default.svc.cluster.local"),
        (TYPE_AUTHORIZATION, "default/allow-web"),
    ]
    workload = json.loads(mesh.document.resources[0].value)
    assert workload["services"] == {"default/web.default.svc.cluster.local": {"80": 8080}}
    (match,) = json.loads(mesh.document.resources[3].value)["rules"][0][0]
    assert match["principals"] == [{"Exact": "example.org/ns/default/sa/web-account"}]
    assert match["notNamespaces"] == [{"Prefix": "kube-"}]


def test_an_inline_mesh_is_read_once() -> None:
    mesh, identity = load_mesh(settings(MESH))
    assert identity is not None
    assert identity.service_account == "web-account"
    assert mesh.load is None


def test_a_mistake_has_its_line_and_column(path: Path) -> None:
    path.write_text(MESH.replace("protocol: HBONE", "protocol: HBNOE"))
    with pytest.raises(MeshFileError) as caught:
        load_mesh(settings(path))
    (line,) = caught.value.lines()
    assert line.startswith(f"{path}:9:13: workloads[0].protocol: not one of TCP, HBONE")


def test_a_mistake_in_an_inline_mesh_names_the_variable() -> None:
    with pytest.raises(MeshFileError) as caught:
        load_mesh(settings("workloads: 1"))
    assert caught.value.lines()[0].startswith("LOCAL_XDS:1:12: workloads: ")


def test_a_file_that_is_not_there_is_an_operating_system_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_mesh(settings(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"PROXY_WORKLOAD_INFO": "default/wbe/web-account"}, "no such workload: default/wbe"),
        (
            {"PROXY_WORKLOAD_INFO": "default/web/default"},
            "default/web has the service account web-account, PROXY_WORKLOAD_INFO says default",
        ),
        ({"NODE_NAME": "node-2"}, "default/web is on node-1, and this is NODE_NAME=node-2"),
        (
            {"NODE_NAME": "node-1", "PROXY_WORKLOAD_INFO": "default/other/default"},
            "default/other is on no node, and this is NODE_NAME=node-1",
        ),
    ],
)
def test_our_own_workload_must_be_in_the_mesh(
    path: Path, more: dict[str, str], message: str
) -> None:
    with pytest.raises(MeshFileError) as caught:
        load_mesh(settings(path, **more))
    assert message in caught.value.lines()[0]


def test_of_several_with_our_name_ours_is_the_one_that_fits(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    twin = "- {name: web, namespace: default, uid: twin, workloadIps: [10.0.0.3]}\n"
    path.write_text(MESH.replace("workloads:\n", f"workloads:\n{twin}"))
    _, identity = load_mesh(settings(path))
    assert str(identity) == "spiffe://example.org/ns/default/sa/web-account"


def test_our_node_is_looked_at_only_if_it_has_a_name(path: Path) -> None:
    load_mesh(settings(path, NODE_NAME="node-1"))
    load_mesh(settings(path))


def test_a_file_that_makes_somebody_else_of_us_is_not_taken(path: Path) -> None:
    mesh, _ = load_mesh(settings(path))
    assert mesh.load is not None
    assert mesh.load(path).resources == mesh.document.resources
    path.write_text(MESH.replace("trustDomain: example.org", "trustDomain: example.com"))
    with pytest.raises(MeshFileError, match="mesh file has 1 mistake") as caught:
        mesh.load(path)
    assert "has another identity now" in caught.value.lines()[0]


XDS = {"XDS_ADDRESS": "istiod:15012", "XDS_ROOT_CA": "SYSTEM"}


def test_beside_a_control_plane_a_file_need_not_say_who_we_are(tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text("workloads: []")
    mesh, identity = load_mesh(settings(path, **XDS))
    assert identity is None
    assert mesh.load is not None
    path.write_text(MESH)
    # Whoever we are in the file now, the control plane's word may be another.
    assert len(mesh.load(path).resources) == 4
    _, identity = load_mesh(settings(path, **XDS))
    assert str(identity) == "spiffe://example.org/ns/default/sa/web-account"


def test_with_a_control_plane_there_need_be_no_file() -> None:
    environ = {
        "PROXY_MODE": "dedicated",
        "PROXY_WORKLOAD_INFO": "default/web/web-account",
        "FAKE_CA": "true",
        "TRUST_DOMAIN": "example.org",
        **XDS,
    }
    one = read_environment(environ, Machine(cores=1))
    mesh, identity = load_mesh(one)
    assert (mesh.document.resources, mesh.load, identity) == ((), None, None)
    ca = one.node_of(None).ca
    assert isinstance(ca, CaSettings)
    assert ca.trust_domain == "example.org"
