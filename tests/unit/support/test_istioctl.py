"""Our reader of dumps against what the real `istioctl` made of a dump of upstream's."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support import istioctl

VECTORS = Path(__file__).parents[2] / "vectors" / "config_dump"
RECORDED = datetime(2026, 11, 22, 22, 43, 41, tzinfo=UTC)
DUMP = (VECTORS / "upstream.json").read_bytes()


def test_it_prints_what_istioctl_prints() -> None:
    assert (
        istioctl.tables(istioctl.read(DUMP), RECORDED) == (VECTORS / "istioctl_all.txt").read_text()
    )


def _changed(path: str, value: object) -> bytes:
    dump: Any = json.loads(DUMP)
    at = dump
    *way, last = path.split(".")
    for step in way:
        at = at[int(step) if isinstance(at, list) else step]
    at[int(last) if isinstance(at, list) else last] = value
    return json.dumps(dump).encode()


# What Go's decoder does not take, and upstream's own test of istioctl does not.
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("workloads", None),
        ("policies", "none"),
        ("workloads.0.capacity", -1),
        ("workloads.0.capacity", 1.0),
        ("workloads.0.capacity", "1"),
        ("workloads.0.workloadIps", "10.0.0.1"),
        ("workloads.0.locality", "r1"),
        ("services.0.canonical", "true"),
        ("services.1.cidrVips.0", 3),
        ("services.1.endpoints.x", {"port": {"443": "443"}}),
        ("services.0.ports", {"80": "80"}),
        ("policies.0.rules", [[{}]]),
        ("policies.1.rules.0.0.0.notPrincipals.0", {"exact": "a"}),
        ("policies.0.rules.0.0.0.destinationPorts.0", 65536),
        ("certificates.0.certChain.0.serialNumber", 17),
        ("certificates.0.state", {"Unavailable": "x"}),
    ],
)
def test_one_wrong_type_fails_the_whole_dump(path: str, value: object) -> None:
    with pytest.raises(istioctl.NotRead):
        istioctl.read(_changed(path, value))


def test_an_identity_without_certificates_is_a_row() -> None:
    waiting = {"identity": "spiffe://t/ns/n/sa/s", "certChain": [], "rootCerts": []}
    entries = [
        {**waiting, "state": "Initializing"},
        {**waiting, "state": "Unavailable: no\nanswer"},
    ]
    dump = istioctl.read(_changed("certificates", entries))
    rows = istioctl.certificate_table(dump, RECORDED).splitlines()[1:]
    assert [row.split()[:3] for row in rows] == [
        ["spiffe://t/ns/n/sa/s", "NA", "Initializing"],
        ["spiffe://t/ns/n/sa/s", "NA", "Unavailable"],
    ]
