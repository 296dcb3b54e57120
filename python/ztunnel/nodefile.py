"""A node file: `node:` with the mesh beside it, or a path to the mesh.

Reads files; the checks are `settings.py`'s and `local.schema`'s. The counterpart for reading again when a
file changes is `local.source`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ztunnel.document.checks import Report
from ztunnel.document.compose import MAX_BYTES, Unreadable, compose, shown
from ztunnel.document.tree import Table
from ztunnel.errors import MeshFileError, NodeFileError, Problem
from ztunnel.files import read_small_file, signature_of
from ztunnel.identity.spiffe import Identity
from ztunnel.local.schema import SECTIONS, MeshDocument, parse_mesh, read_mesh
from ztunnel.local.source import LocalMesh
from ztunnel.settings import NodeSettings, read_node

if TYPE_CHECKING:
    from pathlib import Path

    from ztunnel.document.checks import Json
    from ztunnel.document.tree import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFile:
    """A node file without mistakes, and the mesh that it leads to."""

    settings: NodeSettings
    mesh: LocalMesh
    identity: Identity
    """Of the workload that the node stands for."""


def load_node_file(path: Path) -> NodeFile:
    """Reads a node file and its mesh; `NodeFileError` or `MeshFileError` with every mistake, or `OSError`."""
    signature = signature_of(path)
    root, report = _compose(path)
    settings, mesh = _read(root, report, path)
    if report.problems or settings is None:
        raise NodeFileError(path, report.sorted())
    mesh_path = settings.mesh or path
    if settings.mesh is not None:
        signature = signature_of(mesh_path)
        mesh = parse_mesh(read_small_file(mesh_path, limit=MAX_BYTES), mesh_path)
    own = mesh.workload(settings.workload.namespace, settings.workload.name)
    if own is None:
        raise NodeFileError(path, [_no_workload(root, settings, mesh, mesh_path, report)])
    identity = _identity(own)
    local = LocalMesh(
        document=mesh,
        path=mesh_path,
        signature=signature,
        load=lambda path: mesh_of(path, settings, identity),
    )
    return NodeFile(settings=settings, mesh=local, identity=identity)


def load_any_file(path: Path) -> NodeFile | MeshDocument:
    """Reads a file that is either a node file (it has `node:`) or a mesh file."""
    data = read_small_file(path, limit=MAX_BYTES)
    try:
        root = compose(data).root
    except Unreadable:
        return parse_mesh(data, path)  # which says the same again, as the right kind of error
    if isinstance(root, Table) and "node" in root.entries:
        return load_node_file(path)
    return parse_mesh(data, path)


def mesh_of(path: Path, settings: NodeSettings, identity: Identity) -> MeshDocument:
    """The mesh in its file as it is now, fit for the node that runs with these settings as `identity`.

    Raises `NodeFileError` or `MeshFileError` when the file has mistakes, or no longer fits the node.
    """
    if settings.mesh is not None:
        mesh = parse_mesh(read_small_file(path, limit=MAX_BYTES), path)
    else:
        root, report = _compose(path)
        _, mesh = _read(root, report, path)
        if report.problems:
            raise NodeFileError(path, report.sorted())
    own = mesh.workload(settings.workload.namespace, settings.workload.name)
    if own is None or _identity(own) != identity:
        what = "is gone" if own is None else "has another identity"
        message = (
            f"the workload that this node stands for {what}; restart the node: {settings.workload}"
        )
        raise MeshFileError(path, [Problem(1, 1, "workloads", message)])
    return mesh


def _identity(workload: dict[str, Json]) -> Identity:
    return Identity(
        str(workload["trustDomain"]), str(workload["namespace"]), str(workload["serviceAccount"])
    )


def _compose(path: Path) -> tuple[Node, Report]:
    report = Report()
    try:
        composed = compose(read_small_file(path, limit=MAX_BYTES))
    except Unreadable as error:
        raise NodeFileError(path, [error.problem]) from None
    report.problems.extend(composed.problems)
    return composed.root, report


def _read(root: Node, report: Report, path: Path) -> tuple[NodeSettings | None, MeshDocument]:
    section = root.get("node") if isinstance(root, Table) else None
    settings = read_node(section, report, base=path.parent) if section is not None else None
    if section is None:
        report.add(root, "", "missing: `node`; a node file says which workload it stands for")
    mesh = read_mesh(root, report, beside=["node"])
    if settings is not None and settings.mesh is not None and isinstance(root, Table):
        for name in SECTIONS:
            if name in root.entries:
                report.add(
                    root.entries[name][0],
                    name,
                    "the mesh comes from `node.mesh`; remove one of the two",
                )
    return settings, mesh


def _no_workload(
    root: Node, settings: NodeSettings, mesh: MeshDocument, mesh_path: Path, report: Report
) -> Problem:
    wanted = str(settings.workload)
    hint = report.suggestion(wanted, mesh.workload_names())
    node = root.get("node") if isinstance(root, Table) else None
    at = (node.get("workload") if isinstance(node, Table) else None) or root
    message = f"no such workload in {mesh_path.name}: {shown(wanted)}{hint}"
    return Problem(at.line, at.column, "node.workload", message)
