"""What `istioctl ztunnel-config` does with a `/config_dump`: reads it strictly, and prints tables.

Written from spec/istio.md A2.3 and A2.4, and held against tables that the real one printed
(`tests/vectors/config_dump`). Where the real one is at hand, it goes before this.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cryptography import x509

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Check = Any
"""A type, or what a value of several parts is made of."""

Object = dict[str, Any]


class NotRead(Exception):
    """One wrong type anywhere fails the whole command."""


def read(text: bytes) -> Object:
    """The dump as Go's decoder would take it, with lists where a list or a table may stand."""
    dump: Object = json.loads(text)
    for section, check in SECTIONS.items():
        # Upstream's own test of istioctl wants these to be there, and not null.
        if not isinstance(dump.get(section), (list, dict)):
            raise NotRead(f"{section}: neither a list nor a table")
        values = dump[section]
        dump[section] = list(values.values()) if isinstance(values, dict) else values
        for index, value in enumerate(dump[section]):
            _check(value, check, f"{section}[{index}]")
    _check(dump.get("workloadState"), {str: STATE}, "workloadState")
    return dump


def tables(dump: Object, now: datetime) -> str:
    """All of them, as `istioctl ztunnel-config all` prints them."""
    parts = (
        workload_table(dump),
        service_table(dump),
        policy_table(dump),
        certificate_table(dump, now),
        connection_table(dump),
    )
    return "\n".join(parts)


def workload_table(dump: Object) -> str:
    """Who is there, and behind which waypoint."""
    rows = [
        (
            w["namespace"],
            w["name"],
            ",".join(w["workloadIps"]) or w.get("hostname", ""),
            w.get("node", ""),
            _waypoint(w, dump),
            w["protocol"],
        )
        for w in sorted(dump["workloads"], key=lambda w: (w["namespace"], w["name"], w["uid"]))
    ]
    head = ("NAMESPACE", "POD NAME", "ADDRESS", "NODE", "WAYPOINT", "PROTOCOL")
    return _table([head, *rows], padding=1)


def service_table(dump: Object) -> str:
    """What they serve."""
    healthy = {w["uid"]: w["status"] == "Healthy" for w in dump["workloads"]}
    rows = []
    for s in sorted(dump["services"], key=lambda s: (s["namespace"], s["name"], s["hostname"])):
        endpoints = [e["workloadUid"] for e in s["endpoints"].values()]
        well = sum(healthy.get(uid, False) for uid in endpoints)
        vips = ",".join(vip.partition("/")[2] for vip in s["vips"])
        count = f"{well}/{len(endpoints)}"
        rows.append((s["namespace"], s["name"], vips, _waypoint(s, dump), count))
    head = ("NAMESPACE", "SERVICE NAME", "SERVICE VIP", "WAYPOINT", "ENDPOINTS")
    return _table([head, *rows], padding=1)


def policy_table(dump: Object) -> str:
    """What is allowed."""
    rows = [
        (p["namespace"], p["name"], p["action"], p["scope"])
        for p in sorted(dump["policies"], key=lambda p: (p["namespace"], p["name"]))
    ]
    return _table([("NAMESPACE", "POLICY NAME", "ACTION", "SCOPE"), *rows], padding=1)


def certificate_table(dump: Object, now: datetime) -> str:
    """Who can prove what."""
    head = ("CERTIFICATE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE")  # fmt: skip
    rows = [head]
    for entry in dump["certificates"]:
        state = "Unavailable" if "Unavailable" in entry["state"] else entry["state"]
        if not entry["certChain"]:
            rows.append((entry["identity"], "NA", state, "NA", "NA", "NA", "NA"))
            continue
        kinds = ["Leaf"] + ["Intermediate"] * (len(entry["certChain"]) - 1)
        kinds += ["Root"] * len(entry["rootCerts"])
        for kind, certificate in zip(kinds, entry["certChain"] + entry["rootCerts"], strict=True):
            rows.append((entry["identity"], kind, state, *_certificate(certificate, now)))
    return _table(rows, padding=5)


def secret_table(text: bytes, now: datetime) -> str:
    """`istioctl proxy-config secret`, which takes the document for Envoy's: `configs` and no other key counts, and
    every entry of that is a message whose type it must know.
    """
    rows = [("RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE")]  # fmt: skip
    (dump,) = json.loads(text)["configs"]
    if dump["@type"] != "type.googleapis.com/envoy.admin.v3.SecretsConfigDump":
        raise NotRead(f"another type: {dump['@type']}")
    for section, state in (("dynamic_warming_secrets", "WARMING"), ("dynamic_active_secrets", "ACTIVE")):  # fmt: skip
        for entry in dump[section]:
            _check(entry, {"name": str, "version_info": str, "secret": SECRET}, section)
            secret = entry["secret"]
            kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
            if secret["@type"] != kind:
                raise NotRead(f"another type: {secret['@type']}")
            rows.append((entry["name"], *_secret(secret, state, now)))
    return _table(rows, padding=5)


def _secret(secret: Object, state: str, now: datetime) -> tuple[str, str, str, str, str, str]:
    chain = secret.get("tls_certificate", {}).get("certificate_chain", {}).get("inline_bytes")
    trusted = secret.get("validation_context", {}).get("trusted_ca", {}).get("inline_bytes")
    text = chain or trusted
    if not text:
        return "", state, "false", "", "", ""
    certificate = x509.load_pem_x509_certificates(base64.b64decode(text, validate=True))[0]
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    kind = "CA" if basic.ca else "Cert Chain"
    valid = "true" if start < now < end else "false"
    return (
        kind,
        state,
        valid,
        f"{certificate.serial_number:x}",
        f"{end:{RFC3339}}",
        f"{start:{RFC3339}}",
    )


def connection_table(dump: Object) -> str:
    """Who talks to whom; as with `--raw`."""
    rows = [("WORKLOAD", "DIRECTION", "LOCAL", "REMOTE", "REMOTE TARGET", "PROTOCOL")]
    for state in (dump.get("workloadState") or {}).values():
        info = state["info"]
        name = f"{info['name']}.{info['namespace']}"
        connections = state.get("connections") or {}
        for c in connections.get("inbound") or ():
            target = c["originalDst"] or ""
            rows.append((name, "Inbound", c["actualDst"], c["src"], target, c["protocol"]))
        for c in connections.get("outbound") or ():
            target = c["originalDst"] or ""
            rows.append((name, "Outbound", c["src"], c["actualDst"], target, c["protocol"]))
    return _table(rows, padding=1)


def _certificate(certificate: Object, now: datetime) -> tuple[str, str, str, str]:
    pem = base64.b64decode(certificate["pem"], validate=True)
    if not pem.startswith(b"-----BEGIN CERTIFICATE-----\n"):
        raise NotRead(f"not a certificate: {pem[:40]!r}")
    start, end = (_time(certificate[key]) for key in ("validFrom", "expirationTime"))
    valid = "true" if start <= now < end else "false"
    serial = f"{int(certificate['serialNumber'], 10):x}"
    return valid, serial, certificate["expirationTime"], certificate["validFrom"]


def _time(text: str) -> datetime:
    return datetime.strptime(text, RFC3339).replace(tzinfo=UTC)


def _waypoint(of: Object, dump: Object) -> str:
    if not of.get("waypoint"):
        return "None"
    destination = of["waypoint"]["destination"]
    for service in dump["services"]:
        if destination in (f"{service['namespace']}/{service['hostname']}", *service["vips"]):
            return str(service["name"])
    return "NA"


def _table(rows: Iterable[Sequence[str]], *, padding: int) -> str:
    """Columns as wide as their widest cell and the padding; nothing behind the last one."""
    rows = list(rows)
    widths = [max(map(len, column)) + padding for column in zip(*rows, strict=True)]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False))
        + row[-1]
        + "\n"
        for row in rows
    )


def _check(value: Any, check: Check, where: str) -> None:
    """Go's rules: null goes for anything, an unknown key for nothing, a wrong type for an error."""
    if value is None:
        return
    if callable(check) and not isinstance(check, type):
        if not check(value):
            raise NotRead(f"{where}: {value!r}")
        return
    if isinstance(check, type):
        if type(value) is not check:
            raise NotRead(f"{where}: not a {check.__name__}: {value!r}")
        return
    if isinstance(check, list):
        _check(value, list, where)
        for index, item in enumerate(value):
            _check(item, check[0], f"{where}[{index}]")
        return
    _check(value, dict, where)
    for key, item in value.items():
        known = check.get(key, check.get(str))
        if known is not None:
            _check(item, known, f"{where}.{key}")


def _unsigned(bits: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and 0 <= value < 1 << bits


def _ports(value: Any) -> bool:
    """A table from port to port, whose keys JSON can only write as texts."""
    port = _unsigned(16)
    return isinstance(value, dict) and all(port(int(k)) and port(v) for k, v in value.items())


def _match(value: Any) -> bool:
    kinds = {"Exact", "Prefix", "Suffix"}
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((kind, text),) = value.items()
    return kind == "Presence" or (kind in kinds and isinstance(text, str))


def _cidr(value: Any) -> bool:
    if isinstance(value, str):
        return "/" in value
    return isinstance(value, dict) and all(
        isinstance(value.get(k), str) for k in ("cidr", "network")
    )


RFC3339 = "%Y-%m-%dT%H:%M:%SZ"
_TEXTS = [str]
_GATEWAY = {"destination": str}
_ACCOUNTS = [{"namespace": str, "serviceAccount": str}]
_MATCHES = [_match]
_PORTS = [_unsigned(16)]
_CERTIFICATES = [dict.fromkeys(("pem", "serialNumber", "validFrom", "expirationTime"), str)]
_CONNECTION = dict.fromkeys(("src", "originalDst", "actualDst", "protocol"), str)

SECTIONS: dict[str, Check] = {
    "workloads": {
        **dict.fromkeys(
            ("uid", "protocol", "name", "namespace", "serviceAccount", "workloadName", "workloadType", "canonicalName",
             "canonicalRevision", "clusterId", "trustDomain", "node", "network", "status", "hostname"),
            str,
        ),
        "workloadIps": _TEXTS,
        "authorizationPolicies": _TEXTS,
        "waypoint": _GATEWAY,
        "networkGateway": _GATEWAY,
        "locality": dict.fromkeys(("region", "zone", "subzone"), str),
        "capacity": _unsigned(32),
        "applicationTunnel": {"protocol": str, "port": _unsigned(16)},
    },
    "services": {
        **dict.fromkeys(("name", "namespace", "hostname", "ipFamilies", "visibility"), str),
        "vips": _TEXTS,
        "subjectAltNames": _TEXTS,
        "cidrVips": [_cidr],
        "ports": {str: int},
        "loadBalancer": {"mode": str, "healthPolicy": str, "routingPreferences": _TEXTS},
        "waypoint": _GATEWAY,
        "endpoints": {str: {"workloadUid": str, "service": str, "address": str, "port": _ports}},
        "canonical": bool,
    },
    "policies": {
        **dict.fromkeys(("name", "namespace", "scope", "action"), str),
        "rules": [[[{
            **dict.fromkeys(("namespaces", "notNamespaces", "principals", "notPrincipals"), _MATCHES),
            **dict.fromkeys(("sourceIps", "notSourceIps", "destinationIps", "notDestinationIps"), _TEXTS),
            **dict.fromkeys(("destinationPorts", "notDestinationPorts"), _PORTS),
            **dict.fromkeys(("serviceAccounts", "notServiceAccounts"), _ACCOUNTS),
        }]]],
    },
    "certificates": {
        "identity": str,
        "state": str,
        "certChain": _CERTIFICATES,
        "rootCerts": _CERTIFICATES,
    },
}  # fmt: skip
STATE: Check = {
    "state": str,
    "info": dict.fromkeys(("name", "namespace", "trustDomain", "serviceAccount"), str),
    "connections": {"inbound": [_CONNECTION], "outbound": [_CONNECTION]},
}
_BYTES = {"inline_bytes": str}
SECRET: Check = {
    "@type": str,
    "name": str,
    "tls_certificate": {"certificate_chain": _BYTES},
    "validation_context": {"trusted_ca": _BYTES},
}
