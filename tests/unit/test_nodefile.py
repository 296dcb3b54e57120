"""Node files and the mesh that they lead to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ztunnel.errors import InvalidFile, MeshFileError, NodeFileError, SettingsError
from ztunnel.local.schema import MeshDocument
from ztunnel.nodefile import NodeFile, load_any_file, load_node_file, mesh_of

if TYPE_CHECKING:
    from pathlib import Path

NODE = "node: {workload: default/web, ca: {directory: ca}}\n"
WORKLOADS = (
    "workloads:\n- {name: web, namespace: default, workloadIps: [127.0.0.1], serviceAccount: sa}\n"
)


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def mistakes(path: Path) -> list[str]:
    with pytest.raises(InvalidFile) as caught:
        load_node_file(path)
    return [line.removeprefix(f"{path.parent}/") for line in caught.value.lines()]


def test_a_mesh_may_be_in_the_node_file(tmp_path: Path) -> None:
    file = load_node_file(write(tmp_path, "node.yaml", NODE + WORKLOADS))
    assert file.mesh.path == tmp_path / "node.yaml"
    assert str(file.identity) == "spiffe://cluster.local/ns/default/sa/sa"


def test_a_mesh_may_be_in_a_file_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "mesh.yaml", WORKLOADS)
    node = NODE.replace("{workload", "{mesh: ./mesh.yaml, workload")
    file = load_node_file(write(tmp_path, "node.yaml", node))
    assert file.mesh.path == tmp_path / "mesh.yaml"
    assert file.mesh.document.workload_names() == ["default/web"]


def test_mistakes_of_the_node_and_of_its_mesh_are_listed_together(tmp_path: Path) -> None:
    text = NODE.replace("default/web", "web") + WORKLOADS.replace("127.0.0.1", "127.0.0.256")
    assert mistakes(write(tmp_path, "node.yaml", text)) == [
        'node.yaml:1:18: node.workload: not namespace/name: "web"',
        'node.yaml:3:49: workloads[0].workloadIps[0]: not an IP address: "127.0.0.256"',
    ]


def test_a_node_that_stands_for_nobody_is_a_mistake(tmp_path: Path) -> None:
    text = NODE.replace("default/web", "default/wep") + WORKLOADS
    assert mistakes(write(tmp_path, "node.yaml", text)) == [
        'node.yaml:1:18: node.workload: no such workload in node.yaml: "default/wep"; did you mean "default/web"?'
    ]


def test_a_mesh_in_both_places_is_a_mistake(tmp_path: Path) -> None:
    text = NODE.replace("{workload", "{mesh: m.yaml, workload") + WORKLOADS
    assert mistakes(write(tmp_path, "node.yaml", text)) == [
        "node.yaml:2:1: workloads: the mesh comes from `node.mesh`; remove one of the two"
    ]


def test_a_file_without_node_is_no_node_file(tmp_path: Path) -> None:
    path = write(tmp_path, "mesh.yaml", WORKLOADS)
    assert mistakes(path) == [
        "mesh.yaml:1:1: missing: `node`; a node file says which workload it stands for"
    ]
    with pytest.raises(SettingsError):
        load_node_file(path)


def test_a_mistake_in_the_mesh_beside_it_names_that_file(tmp_path: Path) -> None:
    write(tmp_path, "mesh.yaml", "x: 1")
    node = NODE.replace("{workload", "{mesh: ./mesh.yaml, workload")
    with pytest.raises(MeshFileError) as caught:
        load_node_file(write(tmp_path, "node.yaml", node))
    assert caught.value.path == tmp_path / "mesh.yaml"


def test_check_takes_either_kind(tmp_path: Path) -> None:
    assert isinstance(load_any_file(write(tmp_path, "node.yaml", NODE + WORKLOADS)), NodeFile)
    assert isinstance(load_any_file(write(tmp_path, "mesh.yaml", WORKLOADS)), MeshDocument)
    with pytest.raises(MeshFileError):
        load_any_file(write(tmp_path, "mesh.yaml", ""))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            NODE + "workloads: []\n",
            "the workload that this node stands for is gone; restart the node: default/web",
        ),
        (NODE + WORKLOADS.replace("sa}", "other}"), "has another identity; restart the node"),
        (WORKLOADS, "missing: `node`"),
        (NODE + "workloads: x", "not a list: x"),
    ],
)
def test_a_mesh_that_no_longer_fits_the_running_node_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    path = write(tmp_path, "node.yaml", NODE + WORKLOADS)
    file = load_node_file(path)
    assert mesh_of(path, file.settings, file.identity).resources == file.mesh.document.resources
    path.write_text(text)
    with pytest.raises((MeshFileError, NodeFileError)) as caught:
        mesh_of(path, file.settings, file.identity)
    assert message in "".join(caught.value.lines())
