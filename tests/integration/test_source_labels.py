"""Whose labels a request gets: the mesh's word for its address, else its own, unless neither counts.

A real node and scripted peers (tests/support/lab.py). spec/dataplane.md §3.6, §6.1, §16. Whatever they are, they decide
nothing: identities come from certificates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.hbone_peer import Wire, connect
from tests.support.lab import CLIENT, Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.hbone_peer import Field

pytestmark = pytest.mark.asyncio

OURS = b"k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.deployment.name=web,service.name=web"
CLAIM = (
    "k8s.cluster.name=east,k8s.namespace.name=shop,k8s.deployment.name=storefront,service.name=shop"
)
ABROAD: Field = ("x-forwarded-network", "east")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with started(tmp_path_factory.mktemp("labels")) as lab:
        yield lab


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A node that neither says nor believes what a workload is."""
    with started(tmp_path_factory.mktemp("silent"), responseBaggage=False) as lab:
        yield lab


def started(folder: Any, **node: Any) -> Lab:
    lab = Lab(folder, network="127.4", **node)
    for name in ("web", "peer"):
        lab.mesh.edit(name).update(
            workloadName=name, workloadType="deployment", canonicalName=name, canonicalRevision="v1"
        )
    return lab


async def labels_of(lab: Lab, *fields: Field, source: str | None = None) -> tuple[Any, Any, Any]:
    """Makes a request and gives its source as the log has it: workload, namespace, identity."""
    lines = len(lab.node.access)
    async with (
        lab.application(),
        await Wire.meet(lab.inbound, lab.as_client(), source=source) as wire,
    ):
        assert await wire.request(*connect(lab.authority_of_web), *fields) == 200
    line = await lab.logged(lines, message="connection complete", direction="inbound")
    return line.get("src.workload"), line.get("src.namespace"), line.get("src.identity")


async def test_the_answer_introduces_the_workload_unless_that_is_switched_off(
    lab: Lab, silent: Lab
) -> None:
    for node, expected in ((lab, OURS + b",service.version=v1"), (silent, None)):
        async with (
            node.application(),
            await Wire.meet(node.inbound, node.as_client()) as wire,
        ):
            head = wire.head(*connect(node.authority_of_web))
            await wire.send(head)
            fields = dict(await wire.answer(head.stream_id))
        assert fields.pop(b":status") == b"200"
        assert fields.get(b"baggage") == expected


async def test_a_refusal_introduces_nobody(lab: Lab) -> None:
    async with await Wire.meet(lab.inbound, lab.as_client()) as wire:
        head = wire.head(*connect("127.4.255.1:80"))
        await wire.send(head)
        assert await wire.answer(head.stream_id) == [(b":status", b"400")]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], (None, None)),
        ([("baggage", CLAIM)], ("shop", "shop")),
        # All headers count, and a later one wins.
        ([("baggage", CLAIM), ("baggage", "service.name=other")], ("other", "shop")),
        ([("baggage", b"service.name=\xff,k8s.namespace.name=shop")], (None, None)),
    ],
)
async def test_a_stranger_is_who_it_says_it_is(
    lab: Lab, silent: Lab, fields: list[Field], expected: tuple[str | None, str | None]
) -> None:
    assert await labels_of(lab, *fields) == (*expected, CLIENT)
    assert await labels_of(silent, *fields) == (None, None, CLIENT)


@pytest.mark.parametrize(
    ("fields", "is_known"),
    [
        ([], True),
        # What the mesh says of an address goes before what is said by whoever has it.
        ([("baggage", CLAIM)], True),
        # From another network the address may be anybody's.
        ([("baggage", CLAIM), ABROAD], False),
        # Our network has no name here.
        ([("baggage", CLAIM), ("x-forwarded-network", "")], True),
        # Only the first counts.
        ([("baggage", CLAIM), ("x-forwarded-network", ""), ABROAD], True),
        ([("baggage", CLAIM), ABROAD, ("x-forwarded-network", "")], False),
        # What is no text says nothing.
        ([("baggage", CLAIM), ("x-forwarded-network", "öst".encode())], True),
        ([("baggage", CLAIM), ("x-forwarded-network", b"east\xff")], True),
    ],
)
async def test_a_workload_of_the_mesh_is_known_by_its_address_unless_it_is_from_another_network(
    lab: Lab, fields: list[Field], is_known: bool
) -> None:
    expected = ("peer", "default") if is_known else ("shop", "shop")
    assert await labels_of(lab, *fields, source=lab.peer) == (*expected, CLIENT)


async def test_from_another_network_a_silent_node_knows_no_more_than_the_certificate(
    silent: Lab,
) -> None:
    fields = [("baggage", CLAIM), ABROAD]
    assert await labels_of(silent, *fields, source=silent.peer) == (None, None, CLIENT)
    assert await labels_of(silent, fields[0], source=silent.peer) == ("peer", "default", CLIENT)
