"""The tunnels between the two proxies, as the near side's kernel sees them (`ss -i`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bench.macro import mesh
from tests.netns.namespaces import command

if TYPE_CHECKING:
    from bench.macro.block import Block


def sent(block: Block) -> dict[str, int]:
    """Local port of each tunnel → bytes sent in it so far."""
    name = block.load.bed.near.name
    text = command(
        *("ip", "netns", "exec", name, "ss", "-tinHO", "state", "established"),
        *("dport", "=", f":{mesh.HBONE_PORT}"),
    )
    return parse(text)


def parse(text: str) -> dict[str, int]:
    """From what `ss -tinHO state established` says."""
    found = {}
    for entry in text.splitlines():
        ports = re.findall(r":(\d+)\s", entry)
        sent = re.search(r"\bbytes_sent:(\d+)", entry)
        if ports:
            found[ports[0]] = int(sent[1]) if sent else 0
    return found
