"""The control plane's addresses, roots and tokens, as the environment gives them (control §2.2)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ztunnel.endpoint import Endpoint, RootFile, RootText, SystemRoots, TokenFile, TokenText
from ztunnel.environment.variables import TEXT, Kind

if TYPE_CHECKING:
    from ztunnel.endpoint import Roots, Token
    from ztunnel.environment.variables import Variables

DEFAULT_ROOTS = "./var/run/secrets/istio/root-cert.pem"
DEFAULT_TOKEN = "./var/run/secrets/tokens/istio-token"  # noqa: S105 - where it is, not what it is
IN_CLUSTER = "https://istiod.istio-system.svc:15012"
ELSEWHERE = "https://localhost:15012"
DEFAULT_CLUSTER = "Kubernetes"


def authority(variables: Variables, mark: int | None) -> Endpoint | None:
    """Where certificates come from; None after a mistake, which is noted."""
    address = variables.read("CA_ADDRESS", ADDRESS, _default_address(variables))
    roots = _roots(variables, "CA_ROOT_CA")
    if roots is None:
        return None
    host, port = address
    return Endpoint(
        host=host,
        port=port,
        roots=roots,
        other_name=variables.get("ALT_CA_HOSTNAME") or None,
        token=_token(variables),
        cluster_id=cluster_id(variables),
        mark=mark,
        headers=_headers(variables, "CA_HEADER_"),
    )


def cluster_id(variables: Variables) -> str:
    """The proxy metadata's wins over the plain variable."""
    named = variables.get("ISTIO_META_CLUSTER_ID")
    return named if named is not None else variables.read("CLUSTER_ID", TEXT, DEFAULT_CLUSTER)


def _default_address(variables: Variables) -> tuple[str, int]:
    in_cluster = variables.get("KUBERNETES_SERVICE_HOST") is not None
    return _address(IN_CLUSTER if in_cluster else ELSEWHERE)


def _address(text: str) -> tuple[str, int]:
    """Host and port of an address, with `https://` before it or nothing."""
    parts = urlsplit(text if "://" in text else f"https://{text}")
    if parts.scheme != "https":
        raise ValueError("TLS is required: must begin with https:// or with the host")
    host, port = parts.hostname, parts.port  # which raises ValueError for a port that is none
    if not host or parts.username is not None:
        raise ValueError
    return host, port if port is not None else 443


def _roots(variables: Variables, name: str) -> Roots | None:
    """A path, `SYSTEM`, or certificates in PEM; None after a mistake, which is noted."""
    text = variables.get(name)
    if text == "SYSTEM":
        return SystemRoots()
    if text is not None and "-----BEGIN" in text:
        return RootText(text)
    path = Path(DEFAULT_ROOTS if text is None else text)
    if _exists(path):
        return RootFile(path)
    if text is None:
        reason = f"there is no {DEFAULT_ROOTS}; must be a file of certificates, PEM, or SYSTEM"
        variables.missing(name, reason)
    else:
        variables.mistake(name, "no such file, and neither certificates in PEM nor SYSTEM")
    return None


def _token(variables: Variables) -> Token:
    """A file, which is read for each request, or the token itself."""
    text = variables.get("AUTH_TOKEN")
    path = Path(DEFAULT_TOKEN if text is None else text)
    if _exists(path):
        return TokenFile(path)
    return None if text is None else TokenText(text)


def _headers(variables: Variables, prefix: str) -> tuple[tuple[str, str], ...]:
    """`CA_HEADER_FOO=bar` is the header `foo: bar`."""
    found = []
    for name in sorted(variables.names()):
        key = name.removeprefix(prefix).lower()
        value = variables.get(name)
        if not name.startswith(prefix) or value is None:
            continue
        if not _HEADER.fullmatch(key) or not (value.isascii() and value.isprintable()):
            variables.mistake(name, "neither name nor value may have other than header characters")
        else:
            found.append((key, value))
    return tuple(found)


def _exists(path: Path) -> bool:
    """Whether something is there; a text that can be no path (a token is longer than one may be) is not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


ADDRESS = Kind(_address, "an address such as istiod.istio-system.svc:15012")
_HEADER = re.compile(r"[a-z0-9_.-]+")
