"""ProxyConfig: what the mesh config file and `PROXY_CONFIG` say, one over the other (spec/control.md §2.4).

Pure: texts in, a value or mistakes out. Keys that upstream does not read are left alone, as it leaves them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ztunnel.document.checks import BAD, Bad, Report, describe, integer, text
from ztunnel.document.compose import Unreadable, compose
from ztunnel.document.tree import Scalar, Table
from ztunnel.environment import table
from ztunnel.environment.kinds import ADDRESS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ztunnel.document.checks import Check
    from ztunnel.document.tree import Node
    from ztunnel.environment.variables import Variables

MESH_CONFIG = "./etc/istio/config/mesh"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """The five fields that upstream reads; None is unset."""

    discovery_address: str | None = None
    admin_port: int | None = None
    stats_port: int | None = None
    concurrency: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def over(self, other: ProxyConfig) -> ProxyConfig:
        """This one where it says something, the other elsewhere; metadata key by key."""

        def first(mine: Any, others: Any) -> Any:
            return others if mine is None else mine

        return ProxyConfig(
            discovery_address=first(self.discovery_address, other.discovery_address),
            admin_port=first(self.admin_port, other.admin_port),
            stats_port=first(self.stats_port, other.stats_port),
            concurrency=first(self.concurrency, other.concurrency),
            metadata={**other.metadata, **self.metadata},
        )


def proxy_config(variables: Variables, mesh_config: bytes | None) -> ProxyConfig:
    """Of both sources; what is wrong with either is noted."""
    report = Report()
    of_mesh = _of_mesh(mesh_config or b"", report)
    variables.mistakes += [
        f"invalid mesh config {MESH_CONFIG} ({problem})" for problem in report.problems
    ]
    report = Report()
    own = _read(_root((variables.read(table.PROXY_CONFIG) or "").encode(), report), "", report)
    for problem in report.problems:
        variables.mistake(table.PROXY_CONFIG.name, str(problem))
    return own.over(of_mesh)


def _of_mesh(data: bytes, report: Report) -> ProxyConfig:
    root = _root(data, report)
    if root is not None and not isinstance(root, Table):
        report.add(root, "", f"not a mapping: {describe(root)}")
    found = root.get("defaultConfig") if isinstance(root, Table) else None
    return _read(found, "defaultConfig", report)


def _root(data: bytes, report: Report) -> Node | None:
    """The document; None if there is nothing in it, or it cannot be read, which is noted."""
    if not data.strip():
        return None
    try:
        composed = compose(data)
    except Unreadable as error:
        report.problems.append(error.problem)
        return None
    report.problems.extend(composed.problems)
    root = composed.root
    return None if isinstance(root, Scalar) and root.is_null else root


def _read(root: Node | None, path: str, report: Report) -> ProxyConfig:
    if root is None:
        return ProxyConfig()
    if not isinstance(root, Table):
        report.add(root, path, f"not a mapping: {describe(root)}")
        return ProxyConfig()

    def value(key: str, check: Check) -> Any:
        node = root.get(key)
        found = None if node is None else check(node, f"{path}.{key}" if path else key, report)
        return None if isinstance(found, Bad) else found

    return ProxyConfig(
        discovery_address=value("discoveryAddress", _address),
        admin_port=value("proxyAdminPort", _port),
        stats_port=value("statsPort", _port),
        concurrency=value("concurrency", integer(0, 65535, "a number of workers")),
        metadata=value("proxyMetadata", _texts) or {},
    )


def _address(node: Node, path: str, report: Report) -> str | Bad:
    found = text(node, path, report)
    if not isinstance(found, str):
        return BAD
    try:
        ADDRESS.read(found)
    except ValueError as error:
        return report.add(node, path, str(error) or f"not {ADDRESS.allowed}")
    return found


def _texts(node: Node, path: str, report: Report) -> dict[str, Any] | Bad:
    """A mapping from texts to texts; a key may look like anything."""
    if not isinstance(node, Table):
        return report.add(node, path, f"not a mapping: {describe(node)}")
    pairs = [(key.text, text(value, f"{path}.{key.text}", report)) for key, value in node]
    return {key: value for key, value in pairs if not isinstance(value, Bad)}


_port = integer(0, 65535, "a port number")
