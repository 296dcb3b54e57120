"""`/config_dump` as far as Python makes it; the rest is `rust/proxy/src/dump/tests.rs`."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from ztunnel.admin.config_dump import AT_ONCE, ConfigDump, certificates
from ztunnel.admin.envoy_secrets import configs
from ztunnel.testing import FakeDataPlane

if TYPE_CHECKING:
    from ztunnel.admin.messages import Answer


def dump(data_plane: FakeDataPlane) -> ConfigDump:
    return ConfigDump(
        data_plane,
        {"version": lambda: b'{"version":"1"}', "config": lambda: b"{}"},
        lambda: {"spiffe://t/ns/n/sa/b": "Initializing"},
    )


async def read(answer: Answer) -> bytes:
    assert answer.body is not None
    pieces = []
    while piece := await answer.body.next_piece():
        pieces.append(piece)
    answer.body.close()
    return b"".join(pieces)


def test_certificates_are_sorted_and_those_to_come_are_among_them() -> None:
    installed = [
        {"identity": "spiffe://t/ns/n/sa/c", "state": "Available", "certChain": [{"pem": "x"}]},
        {"identity": "spiffe://t/ns/n/sa/a", "state": "Available", "certChain": [{"pem": "y"}]},
    ]
    states = {
        "spiffe://t/ns/n/sa/b": "Unavailable: no “answer”",
        # Installed meanwhile: what is in use counts.
        "spiffe://t/ns/n/sa/a": "Initializing",
    }
    section = certificates(json.dumps(installed).encode(), states)
    assert [entry["identity"][-1] for entry in section] == ["a", "b", "c"]
    assert [entry["state"] for entry in section] == [
        "Available",
        "Unavailable: no “answer”",
        "Available",
    ]
    # `istioctl` indexes into what is not null.
    assert section[1]["certChain"] == section[1]["rootCerts"] == []


@pytest.mark.asyncio
async def test_a_dump_has_what_only_python_knows() -> None:
    data_plane = FakeDataPlane()
    answer = await dump(data_plane).answer()
    assert (answer.status, answer.kind) == (200, "application/json")
    assert json.loads(await read(answer)) == {
        "certificates": [
            {
                "identity": "spiffe://t/ns/n/sa/b",
                "state": "Initializing",
                "certChain": [],
                "rootCerts": [],
            }
        ],
        "config": {},
        "configs": [
            {
                "@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump",
                "dynamic_active_secrets": [],
                "dynamic_warming_secrets": [
                    {
                        "name": "spiffe://t/ns/n/sa/b",
                        "version_info": "uninitialized",
                        "secret": {
                            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
                            "name": "spiffe://t/ns/n/sa/b",
                        },
                    }
                ],
            }
        ],
        "version": {"version": "1"},
    }
    data_plane.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("query", "alone"),
    [
        ("mask=dynamic_active_secrets,dynamic_warming_secrets", True),
        ("mask=dynamic_active_secrets", True),
        ("mask=dynamic_listeners,static_listeners", False),
        ("include_eds=true", False),
        ("mask=", False),
    ],
)
async def test_a_mask_that_names_secrets_gets_them_alone(query: str, alone: bool) -> None:
    data_plane = FakeDataPlane()
    dumps = dump(data_plane)
    for _ in range(AT_ONCE + 1):  # and makes room for the next
        answer = await dumps.answer(query)
        text = await read(answer) if answer.body else answer.text
        assert (list(json.loads(text)) == ["configs"]) is alone
    data_plane.close()


def test_identities_of_one_authority_share_its_root() -> None:
    def entry(identity: str, *roots: str) -> dict[str, object]:
        pem = [{"pem": base64.b64encode(root.encode()).decode()} for root in roots]
        chain = [{"pem": base64.b64encode(part).decode()} for part in (b"leaf ", b"between ")]
        return {"identity": identity, "state": "Available", "certChain": chain, "rootCerts": pem}

    (section,) = configs([entry("a", "r1"), entry("b", "r1"), entry("c", "r1", "r2")])
    active = section["dynamic_active_secrets"]
    assert [secret["name"] for secret in active] == ["a", "b", "c", "ROOTCA", "ROOTCA-2"]
    chain = active[0]["secret"]["tls_certificate"]["certificate_chain"]["inline_bytes"]
    assert base64.b64decode(chain) == b"leaf between "
    roots = active[-1]["secret"]["validation_context"]["trusted_ca"]["inline_bytes"]
    assert base64.b64decode(roots) == b"r1r2"
    assert "private_key" not in json.dumps(section)


@pytest.mark.asyncio
async def test_too_many_dumps_at_once_are_turned_away_until_one_ends() -> None:
    data_plane = FakeDataPlane()
    dumps = dump(data_plane)
    answers = [await dumps.answer() for _ in range(AT_ONCE)]
    assert (await dumps.answer()).status == 503
    first = answers[0].body
    assert first is not None
    first.close()
    first.close()  # counts once
    assert await first.next_piece() == b""
    answers[0] = await dumps.answer()
    assert answers[0].status == 200
    assert (await dumps.answer()).status == 503
    for answer in answers:
        await read(answer)
    data_plane.close()


@pytest.mark.asyncio
async def test_a_section_that_fails_makes_room_again() -> None:
    data_plane = FakeDataPlane()

    def fails() -> bytes:
        raise RuntimeError("no version today")

    dumps = ConfigDump(data_plane, {"version": fails}, dict)
    for _ in range(AT_ONCE + 1):
        with pytest.raises(RuntimeError, match="no version today"):
            await dumps.answer()
    data_plane.close()
