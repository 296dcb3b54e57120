"""`configs` of `/config_dump`: the certificates once more, as Envoy dumps its secrets. Pure.

For `istioctl proxy-config secret`, which reads Envoy's `SecretsConfigDump` and passes over every other key, as
`istioctl ztunnel-config` passes over this one (spec/users.md #21). There is no key in it, not even a redacted one.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

# The parts of a dump that istioctl names when it asks for secrets (`?mask=…`).
MASKS = frozenset({"dynamic_active_secrets", "dynamic_warming_secrets"})


def configs(certificates: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The section, of the entries of `certificates` (spec/control.md §11)."""
    active, warming = [], []
    roots: dict[str, None] = {}
    for entry in certificates:
        name = entry["identity"]
        if not entry["certChain"]:
            warming.append(_named(name, {}) | {"version_info": "uninitialized"})
            continue
        chain = {"certificate_chain": {"inline_bytes": _pem(entry["certChain"])}}
        active.append(_named(name, {"tls_certificate": chain}))
        roots[_pem(entry["rootCerts"])] = None
    for number, pem in enumerate(roots):
        # What a sidecar calls it; identities of one authority share it.
        name = f"{ROOTS}-{number + 1}" if number else ROOTS
        active.append(_named(name, {"validation_context": {"trusted_ca": {"inline_bytes": pem}}}))
    return [
        {"@type": DUMP, "dynamic_active_secrets": active, "dynamic_warming_secrets": warming},
    ]


def _named(name: str, secret: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "secret": {"@type": SECRET, "name": name, **secret}}


def _pem(certificates: Iterable[dict[str, str]]) -> str:
    """One text, encoded as a whole: istioctl shows its first certificate."""
    texts = [base64.b64decode(certificate["pem"]) for certificate in certificates]
    return base64.b64encode(b"".join(texts)).decode()


DUMP = "type.googleapis.com/envoy.admin.v3.SecretsConfigDump"
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type's name
ROOTS = "ROOTCA"
