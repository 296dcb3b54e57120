"""The control plane's addresses, roots, tokens and headers, as the environment gives them (control §2.2)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ztunnel.endpoint import Endpoint, RootFile, RootText, SystemRoots, TokenFile, TokenText
from ztunnel.environment import table
from ztunnel.environment.config import Server
from ztunnel.environment.kinds import ADDRESS
from ztunnel.settings import XdsNode, XdsSettings

if TYPE_CHECKING:
    from ztunnel.endpoint import Roots, Token
    from ztunnel.environment.config import Config, Headers, ServerAddress
    from ztunnel.environment.variables import Variable, Variables

IN_CLUSTER = "https://istiod.istio-system.svc:15012"
ELSEWHERE = "https://localhost:15012"


def authority(variables: Variables) -> Server:
    """Who signs certificates; without an address if we sign ourselves."""
    fake = variables.read(table.FAKE_CA)
    address = variables.read(table.CA_ADDRESS)
    if fake:
        address = None
    elif not variables.is_set(table.CA_ADDRESS):
        address = _default(variables)
    elif address is None and variables.get(table.CA_ADDRESS.name) == "":
        reason = f"must be {ADDRESS.allowed}; or set FAKE_CA=true to try things out without one"
        variables.mistake(table.CA_ADDRESS.name, reason)
    return Server(
        address=address,
        roots=_roots(variables, table.CA_ROOT_CA, needed=not fake),
        roots_text=_written(variables, table.CA_ROOT_CA),
        other_name=variables.read(table.ALT_CA_HOSTNAME) or None,
        headers=_headers(variables, table.CA_HEADERS),
    )


def delivery(variables: Variables, configured: str | None) -> Server:
    """Who delivers the mesh; without an address if nobody does."""
    address = variables.read(table.XDS_ADDRESS)
    if not variables.is_set(table.XDS_ADDRESS):
        address = _default(variables) if configured is None else ADDRESS.read(configured)
    return Server(
        address=address,
        roots=_roots(variables, table.XDS_ROOT_CA, needed=address is not None),
        roots_text=_written(variables, table.XDS_ROOT_CA),
        other_name=variables.read(table.ALT_XDS_HOSTNAME) or None,
        headers=_headers(variables, table.XDS_HEADERS),
    )


def endpoint(config: Config, token: Token) -> Endpoint | None:
    """Where certificates come from; None if we sign ourselves, or a mistake was noted."""
    return _endpoint(config.certificates.server, config, token)


def xds(config: Config, token: Token) -> XdsSettings | None:
    """Who delivers the mesh; None if nobody does, or a mistake was noted."""
    where = _endpoint(config.mesh.server, config, token)
    if where is None:
        return None
    return XdsSettings(endpoint=where, node=xds_node(config), on_demand=config.mesh.on_demand)


def xds_node(config: Config) -> XdsNode:
    """Who we are to whoever delivers the mesh (spec/control.md §4.4)."""
    place = config.place
    return XdsNode(
        pod=place.pod,
        namespace=place.pod_namespace,
        instance_ip=place.instance_ip,
        name=place.node,
        metadata=place.metadata,
        json_metadata=place.json_metadata,
    )


def _endpoint(server: Server, config: Config, token: Token) -> Endpoint | None:
    if server.address is None or server.roots is None:
        return None
    return Endpoint(
        host=server.address.host,
        port=server.address.port,
        roots=server.roots,
        other_name=server.other_name,
        token=token,
        cluster_id=config.place.cluster_id,
        mark=config.sockets.mark,
        headers=server.headers,
    )


def token(variables: Variables) -> Token:
    """A file, which is read for each request, or the token itself."""
    text = variables.read(table.AUTH_TOKEN)
    where = table.DEFAULT_TOKEN if text is None else text
    if _is_file(where):
        return TokenFile(Path(where))
    if text == "":
        reason = f"must be a file or the token itself; unset is {table.DEFAULT_TOKEN}"
        variables.mistake(table.AUTH_TOKEN.name, reason)
    return None if text is None else TokenText(text)


def _default(variables: Variables) -> ServerAddress | None:
    in_cluster = variables.read(table.KUBERNETES_SERVICE_HOST) is not None
    return ADDRESS.read(IN_CLUSTER if in_cluster else ELSEWHERE)


def _roots(variables: Variables, variable: Variable[str | None], *, needed: bool) -> Roots | None:
    """A path, `SYSTEM`, or certificates in PEM; None after a mistake, which is noted if they are needed."""
    text = variables.read(variable)
    if text == "SYSTEM":
        return SystemRoots()
    if text is not None and "-----BEGIN" in text:
        return RootText(text)
    where = table.DEFAULT_ROOTS if text is None else text
    if _is_file(where):
        return RootFile(Path(where))
    if needed and text is None:
        reason = (
            f"there is no {table.DEFAULT_ROOTS}; must be a file of certificates, PEM, or SYSTEM"
        )
        variables.missing(variable.name, reason)
    elif needed:
        reason = "no such file, and neither certificates in PEM nor SYSTEM"
        variables.mistake(variable.name, reason)
    return None


def _written(variables: Variables, variable: Variable[str | None]) -> str:
    text = variables.get(variable.name)
    return table.DEFAULT_ROOTS if text is None else text


def _headers(variables: Variables, prefix: str) -> Headers:
    """`CA_HEADER_FOO=bar` is the header `foo: bar`."""
    found = []
    for name, value in variables.with_prefix(prefix):
        if not _HEADER.fullmatch(name.lower()) or not (value.isascii() and value.isprintable()):
            reason = "neither name nor value may have other than header characters"
            variables.mistake(f"{prefix}{name}", reason)
        else:
            found.append((name.lower(), value))
    return tuple(found)


def _is_file(text: str) -> bool:
    """Whether something to read is there; a text that can be no path (a token is longer than one may be) is not.

    Nor is the empty text, which `Path` takes for the current directory.
    """
    try:
        return bool(text) and Path(text).exists() and not Path(text).is_dir()
    except (OSError, ValueError):
        return False


_HEADER = re.compile(r"[a-z0-9_.-]+")
