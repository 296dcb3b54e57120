"""Who may talk to istiod: tokens, cluster ids, and what the node of a first request must say (istio.md A3.2, A3.3).

Pure decisions. A token here is a text that was issued; real ones are JWTs which istiod lets Kubernetes review.
"""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpclib import GRPCError, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ztunnel.wire.discovery import WireNode

NODE_TYPES = ("ztunnel", "sidecar", "router", "waypoint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The service account of a token, and the pod that the token was made for."""

    namespace: str
    account: str
    pod: str = ""


class Tokens:
    """The tokens that are good now."""

    def __init__(self) -> None:
        self._callers: dict[str, Caller] = {}

    def issue(self, namespace: str, account: str, pod: str = "") -> str:
        """A new token; earlier ones stay good until they are revoked."""
        # Three parts, as a JWT has them, so that nothing on the way takes it for something else.
        text = ".".join(secrets.token_urlsafe(12) for _ in range(3))
        self.accept(text, Caller(namespace=namespace, account=account, pod=pod))
        return text

    def accept(self, token: str, caller: Caller) -> None:
        """Take this text for this caller's token."""
        self._callers[token] = caller

    def revoke(self, token: str) -> Caller:
        """It counts no longer; streams that are open stay open, as with istiod. Gives whose it was; `KeyError`."""
        return self._callers.pop(token)

    def caller(self, headers: Mapping[str, str], *, cluster: str, refusal: str) -> Caller:
        """Whose call this is; UNAUTHENTICATED with the text `refusal`, if it is nobody's.

        `cluster` is the primary one's id: of any other, istiod has no client for a TokenReview.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        found = self._callers.get(token) if scheme.lower() == "bearer" else None
        if found is None or headers.get("clusterid", "") not in ("", cluster):
            raise GRPCError(Status.UNAUTHENTICATED, refusal)
        return found


def admit(node: WireNode | None, caller: Caller | None) -> str:
    """The name of the Node that a stream is for; GRPCError, if its first request is not to be answered.

    Without a caller (the plaintext port) the token's rules are left out.
    """
    if node is None:
        raise GRPCError(Status.INVALID_ARGUMENT, "missing node information")
    if not node.id:
        raise GRPCError(Status.INVALID_ARGUMENT, "missing node ID")
    metadata = dict(node.metadata)
    namespace = _checked_id(node.id, metadata)
    if caller is not None:
        _check_caller(caller, str(metadata.get("NAMESPACE") or namespace), metadata)
    return str(metadata.get("NODE_NAME", ""))


def _checked_id(text: str, metadata: Mapping[str, object]) -> str:
    """The namespace that a node's id names: the second label of its DNS domain, which starts with it."""
    parts = text.split("~")
    if len(parts) != 4:
        raise GRPCError(Status.INVALID_ARGUMENT, f"missing parts in the service node {text!r}")
    kind, ip, _, domain = parts
    if kind not in NODE_TYPES:
        raise GRPCError(Status.INVALID_ARGUMENT, f"invalid node type in the service node {text!r}")
    ips = metadata.get("INSTANCE_IPS", "")
    if not isinstance(ips, str):
        # A list makes the parsing of all metadata fail.
        raise GRPCError(Status.INVALID_ARGUMENT, "INSTANCE_IPS is not a text")
    if not any(_is_ip(each) for each in (*ips.split(","), ip)):
        raise GRPCError(
            Status.INVALID_ARGUMENT, f"no valid IP address in the service node {text!r}"
        )
    if "GENERATOR" in metadata:
        raise GRPCError(Status.INVALID_ARGUMENT, "GENERATOR is for other clients")
    return domain.partition(".")[0]


def _check_caller(caller: Caller, namespace: str, metadata: Mapping[str, object]) -> None:
    if namespace != caller.namespace:
        raise GRPCError(Status.PERMISSION_DENIED, f"no identity of the token is in {namespace!r}")
    account = metadata.get("SERVICE_ACCOUNT")
    if account is not None and account != caller.account:
        raise GRPCError(Status.PERMISSION_DENIED, f"no identity of the token is {account!r}")


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip())
    except ValueError:
        return False
    return True
