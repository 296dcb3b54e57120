"""Policies as istiod sends them where a mesh has another name for its trust domain: each principal once for each name.

`meshConfig.trustDomainAliases` is istiod's to expand; a proxy sees several principals in one match and knows no aliases. Who
may shake hands at all is another matter: those of our own trust domain (spec/control.md §7.6).
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.hbone_peer import Ended, Wire, connect
from tests.support.lab import CLIENT, Lab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio

CURRENT = "cluster.local/ns/default/sa/client"
FORMER = "old.example/ns/default/sa/client"


@contextmanager
def lab(folder: Path, action: str, *principals: str) -> Iterator[Lab]:
    """A node that holds everybody to one policy about these."""
    made = Lab(folder, network="127.40")
    policy: dict[str, Any] = {
        "name": "expanded",
        "namespace": "default",
        "scope": "Namespace",
        "action": action,
        "rules": [[[{"principals": [{"Exact": principal} for principal in principals]}]]],
    }
    made.mesh.policies.append(policy)
    with made as running:
        yield running


async def status(running: Lab) -> int:
    """What the node answers a client of its own trust domain."""
    async with (
        running.application(),
        await Wire.meet(running.inbound, running.as_client()) as wire,
    ):
        return await wire.request(*connect(running.authority_of_web))


@pytest.mark.parametrize(
    ("action", "principals", "answer"),
    [
        ("Allow", (CURRENT, FORMER), 200),
        ("Allow", (FORMER, CURRENT), 200),
        ("Allow", (FORMER,), 401),
        ("Deny", (FORMER, CURRENT), 401),
        ("Deny", (FORMER,), 200),
    ],
)
async def test_any_of_the_names_that_istiod_lists_counts_and_no_other(
    tmp_path: Path, action: str, principals: tuple[str, ...], answer: int
) -> None:
    with lab(tmp_path, action, *principals) as running:
        assert await status(running) == answer


async def test_a_listed_name_opens_no_door_to_another_trust_domain(tmp_path: Path) -> None:
    with lab(tmp_path, "Allow", CURRENT, FORMER) as running:
        stranger = running.authority.leaf(CLIENT.replace("cluster.local", "old.example"))
        lines = len(running.node.access)
        with pytest.raises(Ended):
            async with await Wire.meet(running.inbound, running.as_client(stranger)) as wire:
                await wire.request(*connect(running.authority_of_web))
        error = re.compile(r"did not present the expected trustdomain \(cluster\.local\)")
        await running.logged(lines, error=error)
        assert await status(running) == 200
