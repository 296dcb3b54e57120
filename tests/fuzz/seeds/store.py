"""Programs for a store: upserts, removals and ends of batches, four bytes each."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import Seeds

END = bytes(4)


def store() -> Seeds:
    """What the lines of spec/dataplane.md §10 are about, then long walks."""

    def remove(which: int, *, as_istio: bool = False) -> bytes:
        return bytes([1, which, 0 if as_istio else 1, 0])

    def service(which: int, a: int, b: int = 0) -> bytes:
        return bytes([2, which, a, b])

    def workload(which: int, a: int, b: int = 0) -> bytes:
        return bytes([5, which, a, b])

    healthy, hbone, first = 0x80, 0x40, 0x02
    yield "staged", workload(0, healthy, 0x3F) + END + service(0, 1) + service(5, 0)
    yield "unready", workload(0, healthy, 1) + service(0, 1) + END + workload(0, 0, 1)
    yield (
        "policy_widens",
        workload(0, 0, 1) + service(0, 1) + END + service(0, 1, 8) + END + service(0, 1),
    )
    yield (
        "address_reused",
        workload(4, first) + workload(0, first) + END + workload(5, first | hbone),
    )
    yield "address_of_host", workload(0, first | 0x30) + workload(4, first)
    yield "service_moves", service(0, 0xF1) + END + service(0, 0x02) + END + service(0, 0x10, 1)
    yield (
        "hostname_shared",
        service(0, 1) + service(1, 1, 2) + service(2, 1, 4) + END + service(0, 1, 8),
    )
    yield (
        "blocks_nested",
        service(0, 0x10) + service(1, 0x20) + service(2, 0x40, 2) + service(3, 0x80),
    )
    yield "removed_and_back", service(0, 1) + service(1, 1) + END + remove(8) + service(0, 1, 2)
    yield (
        "removed_as_istio",
        (
            service(0, 1)
            + workload(0, 2, 1)
            + END
            + remove(8, as_istio=True)
            + remove(0, as_istio=True)
        ),
    )
    yield "twice", workload(0, 2) + workload(0, 4) + service(0, 1) + service(0, 2)
    for seed in range(8):
        random = Random(seed)
        yield f"walk_{seed}", random.randbytes(1024)
