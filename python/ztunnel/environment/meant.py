"""Whether an environment is one for a proxy at all. Apart from the rest, as every call of the program asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# What nobody sets who is not about to run a proxy.
TELLING = (
    "CA_ADDRESS",
    "INPOD_ENABLED",
    "INPOD_UDS",
    "LOCAL_XDS",
    "LOCAL_XDS_PATH",
    "PROXY_MODE",
    "PROXY_WORKLOAD_INFO",
    "XDS_ADDRESS",
)


def is_meant(environ: Mapping[str, str]) -> bool:
    """True if something says so; then no word is needed on the command line."""
    return any(name in environ for name in TELLING)
