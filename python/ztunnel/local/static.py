"""`staticConfig` of `/config_dump`: a mesh file as upstream writes it down (spec/control.md §11).

Every field that a file may leave out stands there with the value that it then has, unless that says nothing; upstream's
keys are always there or never, and so are ours. Unlike `workloads` of the same dump this is what the file says: a
workload's `services` have their ports, a service's `endpoints` are only those that the file names.
Pure; `source.py` knows which file.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ztunnel.dataplane.handle import TYPE_AUTHORIZATION, TYPE_SERVICE, TYPE_WORKLOAD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ztunnel.dataplane.handle import Resource
    from ztunnel.document.checks import Json


def static_config(resources: Iterable[Resource], errors: Iterable[str] = ()) -> bytes:
    """The section as JSON. `errors` say why it is not the file of this moment, but the one that is in use."""
    sections: dict[str, list[bytes]] = {"policies": [], "services": [], "workloads": []}
    for resource in resources:
        name, write = _SECTIONS[resource.type_url]
        sections[name].append(_text(write(json.loads(resource.value))))
    # One resource at a time: a large mesh is never there as Python's objects.
    members = [b'"%s":[%s]' % (name.encode(), b",".join(v)) for name, v in sections.items()]
    told = list(errors)
    if told:
        members.insert(0, b'"errors":%s' % _text(told))
    return b"{%s}" % b",".join(members)


def _workload(value: dict[str, Json]) -> Json:
    whole = {**_WORKLOAD, **_without(value, _SAYS_NOTHING)}
    locality = whole.get("locality")
    if isinstance(locality, dict) and not any(locality.values()):
        del whole["locality"]
    tunnel = whole.get("applicationTunnel")
    if isinstance(tunnel, dict):
        whole["applicationTunnel"] = {"port": None, **tunnel}
    return whole


def _service(value: dict[str, Json]) -> Json:
    whole = {**_SERVICE, **_without(value, {"cidrVips": [], "weightedWaypoints": []})}
    endpoints = whole["endpoints"]
    assert isinstance(endpoints, dict)  # noqa: S101 - so says `schema.py`
    whole["endpoints"] = {uid: {**_ENDPOINT, **_table(each)} for uid, each in endpoints.items()}
    return whole


def _policy(value: dict[str, Json]) -> Json:
    rules = value["rules"]
    assert isinstance(rules, list)  # noqa: S101 - so says `schema.py`
    return {**value, "rules": [_clauses(rule) for rule in rules]}


def _clauses(rule: Json) -> Json:
    assert isinstance(rule, list)  # noqa: S101 - so says `schema.py`
    return [[_match(match) for match in clause] for clause in rule if isinstance(clause, list)]


def _match(match: Json) -> Json:
    """What lists nothing asks for nothing, and is not shown."""
    return {field: values for field, values in _table(match).items() if values != []}


def _without(value: dict[str, Json], nothing: Mapping[str, Json]) -> dict[str, Json]:
    return {k: v for k, v in value.items() if k not in nothing or v != nothing[k]}


def _table(value: Json) -> dict[str, Json]:
    assert isinstance(value, dict)  # noqa: S101 - so says `schema.py`
    return value


def _text(value: Json | list[str]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


# Always there.
_WORKLOAD: dict[str, Json] = {
    "capacity": 1,
    "clusterId": "",
    "name": "",
    "networkMode": "Standard",
    "protocol": "TCP",
    "services": {},
    "status": "Healthy",
}
_SERVICE: dict[str, Json] = {
    "canonical": False,
    "endpoints": {},
    "subjectAltNames": [],
    "visibility": "Public",
}
_ENDPOINT: dict[str, Json] = {"status": "Healthy"}

# Only there if it is another.
_SAYS_NOTHING: dict[str, Json] = {
    "authorizationPolicies": [],
    "canonicalName": "",
    "canonicalRevision": "",
    "hostname": "",
    "nativeTunnel": False,
    "network": "",
    "node": "",
    "workloadName": "",
    "workloadType": "",
}

_SECTIONS = {
    TYPE_AUTHORIZATION: ("policies", _policy),
    TYPE_SERVICE: ("services", _service),
    TYPE_WORKLOAD: ("workloads", _workload),
}
