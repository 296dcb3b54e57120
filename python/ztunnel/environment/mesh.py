"""The mesh that the environment leads to, and who we are in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ztunnel.document.compose import MAX_BYTES
from ztunnel.errors import MeshFileError, Problem
from ztunnel.files import read_small_file, signature_of
from ztunnel.identity.spiffe import Identity
from ztunnel.local.schema import MeshDocument, parse_mesh
from ztunnel.local.source import LocalMesh

if TYPE_CHECKING:
    from ztunnel.document.checks import Json
    from ztunnel.environment.proxy import ProxySettings

INLINE = Path("LOCAL_XDS")
"""What an inline mesh is called in messages."""


def load_mesh(settings: ProxySettings) -> tuple[LocalMesh, Identity | None]:
    """Reads the mesh and finds our own workload in it; `MeshFileError` or `OSError`.

    Our identity is None if the mesh, or the rest of it, is delivered and will say it.
    """
    if not isinstance(settings.mesh, Path):
        document = MeshDocument(resources=())
        if settings.mesh is not None:
            document = parse_mesh(settings.mesh.encode(), INLINE)
        known = _known(document, settings, INLINE)
        return LocalMesh(document=document, path=INLINE, signature=None, load=None), known
    path = settings.mesh
    signature = signature_of(path)
    document = _parse(path)
    identity = _known(document, settings, path)
    mesh = LocalMesh(
        document=document,
        path=path,
        signature=signature,
        load=lambda path: _again(path, settings, identity),
    )
    return mesh, identity


def _parse(path: Path) -> MeshDocument:
    return parse_mesh(read_small_file(path, limit=MAX_BYTES), path)


def _again(path: Path, settings: ProxySettings, identity: Identity | None) -> MeshDocument:
    """The file as it is now; `MeshFileError` if it makes somebody else of us."""
    document = _parse(path)
    if identity is not None and _own(document, settings, path) != identity:
        message = f"the workload of this proxy has another identity now than {identity}; restart the proxy"
        raise MeshFileError(path, [Problem(1, 1, "workloads", message)])
    return document


def _known(document: MeshDocument, settings: ProxySettings, path: Path) -> Identity | None:
    """Who we are, if the document says so; it need not where a control plane delivers more."""
    name = settings.node.workload
    if settings.node.xds is not None and document.workload(name.namespace, name.name) is None:
        return None
    return _own(document, settings, path)


def _own(document: MeshDocument, settings: ProxySettings, path: Path) -> Identity:
    """The identity of the workload that `PROXY_WORKLOAD_INFO` names; its trust domain stands in the mesh."""
    name = settings.node.workload
    reason = f"no such workload: {name}; PROXY_WORKLOAD_INFO names it"
    for found in document.workloads(name.namespace, name.name):
        mismatch = _mismatch(found, settings)
        if mismatch is None:
            return Identity(
                str(found["trustDomain"]), name.namespace, settings.workload.service_account
            )
        reason = f"{name} {mismatch}"
    raise MeshFileError(path, [Problem(1, 1, "workloads", reason)])


def _mismatch(workload: dict[str, Json], settings: ProxySettings) -> str | None:
    """Why a workload of our name is not ours, or None if it is."""
    account, node = workload["serviceAccount"], workload.get("node", "")
    wanted, here = settings.workload.service_account, settings.config.place.node
    if account != wanted:
        return f"has the service account {account}, PROXY_WORKLOAD_INFO says {wanted}"
    if here is not None and node != here:
        return f"is on {node or 'no node'}, and this is NODE_NAME={here}"
    return None
