"""What a proxy's settings need to know of the machine: the one part of the environment that opens files."""

from __future__ import annotations

import os
from pathlib import Path

from ztunnel.document.compose import MAX_BYTES
from ztunnel.environment.config import Machine
from ztunnel.environment.proxyconfig import MESH_CONFIG
from ztunnel.files import read_small_file


def look_around() -> Machine:
    """Reads what is there; `OSError` for a mesh config that is there and cannot be read."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        loopback_ipv6=_text("/proc/sys/net/ipv6/conf/lo/disable_ipv6").strip() != "1",
        mesh_config=_mesh_config(),
        resolv_conf=_text("/etc/resolv.conf"),
    )


def _mesh_config() -> bytes | None:
    try:
        return read_small_file(Path(MESH_CONFIG), limit=MAX_BYTES)
    except FileNotFoundError:
        return None


def _text(path: str) -> str:
    """What is in a small file; nothing if it cannot be read."""
    try:
        return read_small_file(Path(path), limit=MAX_SMALL).decode("utf-8", "replace")
    except OSError:
        return ""


MAX_SMALL = 64 * 1024
