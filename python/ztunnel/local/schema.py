"""The mesh file: what may stand in it (spec/control.md §3), as tables to read beside the spec.

Bytes in; resources for the data plane or every mistake out. Opens nothing. Stays stricter than upstream
where a mistake would pass in silence (two workloads of one uid), and easier where a person writes the
file by hand: `uid`, `serviceAccount`, `trustDomain`, `services` and `dryRun` have defaults.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ztunnel import spelling
from ztunnel.dataplane.handle import TYPE_AUTHORIZATION, TYPE_SERVICE, TYPE_WORKLOAD, Resource
from ztunnel.document.checks import (
    Bad,
    Check,
    Field,
    Json,
    Report,
    boolean,
    integer,
    integer_key,
    list_of,
    name,
    one_of,
    spelled,
    struct,
    table_of,
    text,
)
from ztunnel.document.compose import Unreadable, compose, shown, without_collector
from ztunnel.document.tree import Listing, Node, Table
from ztunnel.errors import MeshFileError, Problem
from ztunnel.local.values import address, cidr, gateway, namespaced, network_address, string_match

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

SECTIONS = ("workloads", "services", "policies")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshDocument:
    """A mesh file without mistakes."""

    resources: tuple[Resource, ...]
    warnings: tuple[Problem, ...] = ()
    """What can be applied and is still probably not meant, for example a service that nobody described."""

    def workload(self, namespace: str, name: str) -> dict[str, Json] | None:
        """The first workload of this name, or None."""
        return next(self.workloads(namespace, name), None)

    def workloads(self, namespace: str, name: str) -> Iterator[dict[str, Json]]:
        """Every workload of this name: uids tell them apart, names need not."""
        for resource in self.resources:
            if resource.type_url == TYPE_WORKLOAD:
                found: dict[str, Json] = json.loads(resource.value)
                if found["namespace"] == namespace and found.get("name") == name:
                    yield found

    def workload_names(self) -> list[str]:
        """`namespace/name` of every workload."""
        values = [json.loads(r.value) for r in self.resources if r.type_url == TYPE_WORKLOAD]
        return [f"{value['namespace']}/{value.get('name', '')}" for value in values]

    def count(self, type_url: str) -> int:
        """How many resources of a type there are."""
        return sum(resource.type_url == type_url for resource in self.resources)


def parse_mesh(data: bytes, path: Path) -> MeshDocument:
    """Reads a mesh file; raises `MeshFileError` with every mistake."""
    report = Report()
    with without_collector():
        try:
            composed = compose(data)
        except Unreadable as error:
            raise MeshFileError(path, [error.problem]) from None
        report.problems.extend(composed.problems)
        document = read_mesh(composed.root, report)
    if report.problems:
        raise MeshFileError(path, report.sorted())
    return document


def read_mesh(root: Node, report: Report, *, beside: Iterable[str] = ()) -> MeshDocument:
    """Reads the three sections of a document; `beside` names sections that somebody else reads."""
    if not isinstance(root, Table):
        report.add(
            root, "", f"not a mapping with {', '.join(f'`{section}`' for section in SECTIONS)}"
        )
        return MeshDocument(resources=())
    known = [*SECTIONS, *beside]
    for key, _ in root:
        if key.text not in known:
            hint = report.suggestion(key.text, known)
            report.add(key, "", f"unknown field: {shown(key.text)}{hint}")
    workloads = _section(root, "workloads", _WORKLOAD, _finish_workload, report)
    services = _section(root, "services", _SERVICE, _service_key, report)
    policies = _section(root, "policies", _POLICY, _policy_key, report)
    resources = [
        Resource(type_url=type_url, name=entry.key, value=_json(entry.value))
        for type_url, entries in (
            (TYPE_WORKLOAD, workloads),
            (TYPE_SERVICE, services),
            (TYPE_AUTHORIZATION, policies),
        )
        for entry in entries
    ]
    warnings = _dangling(workloads, "services", {entry.key for entry in services}, "service")
    warnings += _dangling(
        workloads, "authorizationPolicies", {entry.key for entry in policies}, "policy"
    )
    return MeshDocument(resources=tuple(resources), warnings=tuple(warnings))


@dataclass(frozen=True, slots=True)
class _Entry:
    key: str
    value: dict[str, Json]
    node: Node
    path: str


def _section(
    root: Table,
    section: str,
    check: Check,
    key_of: Callable[[dict[str, Json]], str],
    report: Report,
) -> list[_Entry]:
    """Checks each item of a section and that no two have the same key."""
    listing = root.get(section)
    if listing is None:
        return []
    if not isinstance(listing, Listing):
        list_of(check)(listing, section, report)
        return []
    entries: dict[str, _Entry] = {}
    for index, node in enumerate(listing.items):
        path = f"{section}[{index}]"
        value = check(node, path, report)
        if isinstance(value, Bad) or not isinstance(value, dict):
            continue
        key = key_of(value)
        if not key:
            report.add(node, path, "missing: `uid`, or a `name` to make one of")
        elif key in entries:
            first = entries[key]
            message = f"the same key as {first.path} on line {first.node.line}: {shown(key)}"
            report.add(node, path, message)
        else:
            entries[key] = _Entry(key, value, node, path)
    return list(entries.values())


def _finish_workload(value: dict[str, Json]) -> str:
    """Fills `uid` in; it is the key."""
    if not value.get("uid"):
        value["uid"] = f"{value['namespace']}/{value['name']}" if value.get("name") else ""
    return str(value["uid"])


def _service_key(value: dict[str, Json]) -> str:
    return f"{value['namespace']}/{value['hostname']}"


def _policy_key(value: dict[str, Json]) -> str:
    return f"{value['namespace']}/{value['name']}"


def _dangling(workloads: list[_Entry], field: str, known: set[str], what: str) -> list[Problem]:
    """References to things that are not in the file: no mistake to the data plane, often one to the writer."""
    found = []
    for entry in workloads:
        referred = entry.value.get(field)
        assert isinstance(referred, (dict, list, type(None)))  # noqa: S101 - so says the table below
        for key in referred or ():
            if key not in known:
                where = f"{entry.path}.{field}"
                message = f"no such {what} in this file: {shown(str(key))}"
                found.append(Problem(entry.node.line, entry.node.column, where, message))
    return found


def _json(value: dict[str, Json]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


_segment = spelled(spelling.is_segment, f"a name ({spelling.SEGMENT_RULE})")
_trust_domain = spelled(spelling.is_trust_domain, f"a trust domain ({spelling.TRUST_DOMAIN_RULE})")
_port = integer(1, 65535, "a port number")
# Zero says "ask each endpoint's own map" in a service (upstream's `target_port`).
_target_port = integer(0, 65535, "a port number")
_service_ports = table_of(integer_key(1, 65535, "a port number"), _target_port)
_u32 = integer(0, 2**32 - 1, "a whole number")

_GATEWAY = struct(
    Field("destination", gateway, required=True),
    Field("hboneMtlsPort", _port, required=True),
)
_STATUS = one_of("Healthy", "Unhealthy")

_WORKLOAD = struct(
    Field("workloadIps", list_of(address), required=True),
    Field("namespace", _segment, required=True),
    Field("name", text),
    Field("uid", text),
    Field("trustDomain", _trust_domain, default=spelling.DEFAULT_TRUST_DOMAIN),
    Field("serviceAccount", _segment, default=spelling.DEFAULT_SERVICE_ACCOUNT),
    Field("services", table_of(namespaced, _service_ports), default={}),
    Field("protocol", one_of("TCP", "HBONE")),
    Field("network", text),
    Field("networkMode", one_of("Standard", "HostNetwork")),
    Field("workloadName", text),
    Field("workloadType", text),
    Field("canonicalName", text),
    Field("canonicalRevision", text),
    Field("hostname", text),
    Field("node", text),
    Field("clusterId", text),
    Field("waypoint", _GATEWAY),
    Field("networkGateway", _GATEWAY),
    Field("nativeTunnel", boolean),
    Field(
        "applicationTunnel",
        struct(Field("protocol", one_of("NONE", "PROXY"), required=True), Field("port", _port)),
    ),
    Field("authorizationPolicies", list_of(namespaced)),
    Field("status", _STATUS),
    Field(
        "locality",
        struct(*(Field(part, text, required=True) for part in ("region", "zone", "subzone"))),
    ),
    Field("capacity", _u32),
)

_ENDPOINT = struct(
    Field("workloadUid", name, required=True),
    Field("port", _service_ports, required=True),
    Field("status", _STATUS),
)

_LOAD_BALANCER = struct(
    Field(
        "routingPreferences",
        list_of(one_of("Region", "Zone", "Subzone", "Node", "Cluster", "Network")),
        required=True,
    ),
    Field("mode", one_of("Standard", "Strict", "Failover", "Passthrough"), required=True),
    Field("healthPolicy", one_of("OnlyHealthy", "AllowAll"), required=True),
)

_SERVICE = struct(
    Field("name", name, required=True),
    Field("namespace", _segment, required=True),
    Field("hostname", name, required=True),
    Field("vips", list_of(network_address), required=True),
    Field("ports", _service_ports, required=True),
    Field(
        "cidrVips",
        list_of(struct(Field("network", text, required=True), Field("cidr", cidr, required=True))),
    ),
    Field("endpoints", table_of(name, _ENDPOINT)),
    Field("subjectAltNames", list_of(name)),
    Field("waypoint", _GATEWAY),
    Field(
        "weightedWaypoints",
        list_of(
            struct(
                Field("destination", _GATEWAY, required=True), Field("weight", _u32, required=True)
            )
        ),
    ),
    Field("loadBalancer", _LOAD_BALANCER),
    Field("ipFamilies", one_of("Dual", "IPv4", "IPv6")),
    Field("canonical", boolean),
    Field("visibility", one_of("Public", "Namespace")),
)

_strings = list_of(string_match)
_accounts = list_of(
    struct(
        Field("namespace", _segment, required=True),
        Field("serviceAccount", _segment, required=True),
    )
)
_cidrs = list_of(cidr)
_ports = list_of(_port)

_MATCH = struct(
    Field("namespaces", _strings),
    Field("notNamespaces", _strings),
    Field("principals", _strings),
    Field("notPrincipals", _strings),
    Field("serviceAccounts", _accounts),
    Field("notServiceAccounts", _accounts),
    Field("sourceIps", _cidrs),
    Field("notSourceIps", _cidrs),
    Field("destinationIps", _cidrs),
    Field("notDestinationIps", _cidrs),
    Field("destinationPorts", _ports),
    Field("notDestinationPorts", _ports),
)

_POLICY = struct(
    Field("name", name, required=True),
    Field("namespace", text, required=True),
    Field("scope", one_of("Global", "Namespace", "WorkloadSelector"), required=True),
    Field("action", one_of("Allow", "Deny"), required=True),
    Field("rules", list_of(list_of(list_of(_MATCH))), required=True),
    Field("dryRun", boolean, default=False),
)
