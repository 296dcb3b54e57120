"""What this version cannot do yet: refused where serving without it would be unsafe, else named in one warning.

Nothing is ignored in silence. `table.py` has the status of each variable; here it is acted on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ztunnel.environment import table
from ztunnel.environment.variables import Status

if TYPE_CHECKING:
    from ztunnel.environment.config import Config
    from ztunnel.environment.variables import Variables


def refuse(variables: Variables, config: Config) -> None:
    """Notes what ends the start."""
    if config.mode == "shared" and variables.get(table.PROXY_MODE.name) in (None, "shared"):
        reason = "the shared mode of a node is not built yet; set PROXY_MODE=dedicated"
        variables.wrong(table.PROXY_MODE.name, reason)
    if not config.proxy and config.mesh.dns_proxy:
        reason = "the DNS proxy is not built yet, and without the proxy nothing is left to run"
        variables.mistake(table.ENABLE_PROXY.name, reason)
    nowhere = config.mesh.server.address is None and config.mesh.local is None
    # A mistake in one of the two is noted already.
    if (
        nowhere
        and not variables.get(table.XDS_ADDRESS.name)
        and not variables.is_set(table.LOCAL_XDS_PATH)
    ):
        reason = "must be a file with the mesh, as XDS_ADDRESS is empty"
        variables.missing(table.LOCAL_XDS_PATH.name, reason)


def not_built(variables: Variables) -> tuple[str, ...]:
    """The names of variables that ask for something and are without effect, in order."""
    found = [
        variable.name
        for _, group in table.GROUPS
        for variable in group
        if variable.status is Status.UNBUILT
        and variables.is_set(variable)
        and not variable.is_idle(variables.values[variable.name])
    ]
    if variables.values[table.META_DNS_CAPTURE.name] == "true" and not variables.is_set(
        table.META_DNS_CAPTURE
    ):
        found.append(f"{table.META_DNS_CAPTURE.name} (unset means true)")
    for prefix, _, status, _ in table.PREFIXES:
        if status is Status.UNBUILT:
            found += [f"{prefix}{name}" for name, _ in variables.with_prefix(prefix)]
    return tuple(sorted(found))
