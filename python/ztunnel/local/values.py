"""The single values of a mesh file that have a form of their own: addresses, references, string matches."""

from __future__ import annotations

from ztunnel.document.checks import Bad, Json, Report, describe, text
from ztunnel.document.compose import shown
from ztunnel.document.tree import Listing, Node, Scalar, Table
from ztunnel.spelling import is_address


def address(node: Node, path: str, report: Report) -> Json | Bad:
    """An IP address."""
    value = text(node, path, report)
    if isinstance(value, str) and not is_address(value):
        return report.add(node, path, f"not an IP address: {shown(value)}")
    return value


def cidr(node: Node, path: str, report: Report) -> Json | Bad:
    """A block of addresses, `10.0.0.0/8`."""
    value = text(node, path, report)
    if not isinstance(value, str):
        return value
    base, slash, length = value.partition("/")
    longest = 128 if ":" in base else 32
    if is_address(base) and not slash:
        return report.add(
            node, path, f"not a CIDR: {shown(value)}; write {value}/{longest} for one address"
        )
    good = length.isascii() and length.isdigit() and len(length) <= 3 and str(int(length)) == length
    if not is_address(base) or not good or int(length) > longest:
        return report.add(node, path, f"not a CIDR: {shown(value)}")
    return value


def network_address(node: Node, path: str, report: Report) -> Json | Bad:
    """`network/ip`; the network may be empty: `/10.0.0.1`."""
    value = text(node, path, report)
    if not isinstance(value, str):
        return value
    _, slash, ip = value.partition("/")
    if not slash and is_address(value):
        return report.add(
            node, path, f"not network/address: {shown(value)}; write /{value} for no network"
        )
    if not is_address(ip):
        return report.add(node, path, f"not network/address: {shown(value)}")
    return value


def namespaced(node: Node, path: str, report: Report) -> Json | Bad:
    """`namespace/name`, of a service (where the name is a host name) or a policy."""
    value = text(node, path, report)
    if isinstance(value, str) and not _is_namespaced(value):
        return report.add(node, path, f"not namespace/name: {shown(value)}")
    return value


def gateway(node: Node, path: str, report: Report) -> Json | Bad:
    """Where a waypoint or gateway is: `network/ip`, else `namespace/hostname`."""
    value = text(node, path, report)
    if (
        isinstance(value, str)
        and not is_address(value.partition("/")[2])
        and not _is_namespaced(value)
    ):
        return report.add(node, path, f"not network/address or namespace/hostname: {shown(value)}")
    return value


def string_match(node: Node, path: str, report: Report) -> Json | Bad:
    """`!Exact web` as upstream's reader wants it, or `{Exact: web}`; Presence takes nothing or `[]`."""
    if node.tag is not None:
        return _string_match(node.tag, node, node, path, report)
    if isinstance(node, Table) and len(node.entries) == 1:
        ((key, value),) = node
        return _string_match(key.text, key, value, path, report)
    kinds = ", ".join(_KINDS)
    return report.add(
        node, path, f"not one of {kinds} with its value: {describe(node)}; write {{Exact: web}}"
    )


def _string_match(kind: str, at: Node, value: Node, path: str, report: Report) -> Json | Bad:
    if kind not in _KINDS:
        hint = report.suggestion(kind, _KINDS)
        return report.add(at, path, f"not one of {', '.join(_KINDS)}: {shown(kind)}{hint}")
    if kind == "Presence":
        nothing = (isinstance(value, Scalar) and value.text in ("", "~", "null")) or (
            isinstance(value, Listing) and not value.items
        )
        return (
            {kind: []}
            if nothing
            else report.add(value, path, "Presence takes no value; write {Presence: []}")
        )
    if isinstance(value, Scalar):
        # The tag has done its work: what remains is a text, quoted or not (`!Exact 1` means "1").
        quoted = value.quoted or value.tag is not None
        value = Scalar(value.line, value.column, None, value.text, quoted)
    found = text(value, f"{path}.{kind}", report)
    return found if isinstance(found, Bad) else {kind: found}


def _is_namespaced(value: str) -> bool:
    namespace, _, rest = value.partition("/")
    return bool(namespace and rest) and "/" not in rest and " " not in value


_KINDS = ("Exact", "Prefix", "Suffix", "Presence")
