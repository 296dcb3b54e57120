"""A fake istiod's answers to what a real one was asked, against the real one's answers; and a player of its part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpclib import GRPCError, Status

from ztunnel.testing.istiod import answers
from ztunnel.testing.istiod.ads import AdsStream, Verdict
from ztunnel.testing.istiod.callers import Caller, Tokens, admit
from ztunnel.testing.istiod.certificates import Certificates
from ztunnel.testing.istiod.cluster import Cluster
from ztunnel.testing.istiod.mesh import strict
from ztunnel.testing.istiod.recording import (
    Ended,
    Event,
    FromIstiod,
    Line,
    Player,
    ToIstiod,
    read,
)
from ztunnel.testing.istiod.resources import ADDRESS, AUTHORIZATION, TYPES, received
from ztunnel.testing.istiod.xxh64 import content_version, xxh64
from ztunnel.wire.citadel import CertificateRequest
from ztunnel.wire.discovery import DeltaRequest, WireNode, WireResponse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VECTORS = Path(__file__).parents[2] / "vectors"
CONVERSATIONS = VECTORS / "istiod" / "conversations"
ZTUNNEL = Caller(namespace="istio-system", account="ztunnel", pod="zt-a")


def conversations() -> Iterator[tuple[str, int, list[Line]]]:
    for path in sorted(CONVERSATIONS.glob("*.jsonl")):
        for number, stream in enumerate(read(path)):
            yield path.stem, number, stream


STREAMS = [pytest.param(name, stream, id=f"{name}-{n}") for name, n, stream in conversations()]


def cluster_before(name: str) -> Cluster:
    """The cluster as it was when the conversation began, from its own first full answers or those of the next one."""
    source = "delta-session" if name == "delta-session" else "delta-nack"
    (stream,) = read(CONVERSATIONS / f"{source}.jsonl")
    first: dict[str, WireResponse] = {}
    for line in stream:
        if isinstance(line, FromIstiod):
            first.setdefault(line.response.type_url, line.response)
    cluster = Cluster()
    assert set(first) == set(TYPES)
    for type_url, response in first.items():
        cluster.change([received(each, type_url) for each in response.resources])
    return cluster


def contents(response: WireResponse) -> object:
    """All that two answers to one request have in common: istiod walks its maps in any order."""
    resources = sorted(
        (r.name, r.version, sorted(r.aliases), r.type_url, r.value) for r in response.resources
    )
    return response.type_url, resources, sorted(response.removed)


@pytest.mark.parametrize(("name", "lines"), STREAMS)
def test_it_answers_as_the_real_one_did(name: str, lines: list[Line]) -> None:
    cluster = cluster_before(name)
    stream = AdsStream(cluster, admit=lambda node: admit(node, ZTUNNEL))
    # Nonces differ from recording to recording: the client's are translated.
    nonces: dict[str, str] = {}
    waiting: list[WireResponse] = []
    answered = 0
    for line in lines:
        match line:
            case ToIstiod():
                request = translated(line.request, nonces)
                waiting += stream.receive(request).responses
            case FromIstiod():
                # What nobody asked for is an event of the cluster.
                if not waiting:
                    waiting += pushed(cluster, stream, line.response)
                ours = next(r for r in waiting if r.type_url == line.response.type_url)
                waiting.remove(ours)
                assert contents(ours) == contents(line.response)
                nonces[line.response.nonce] = ours.nonce
                answered += 1
            case Ended() if line.status is not Status.CANCELLED:
                assert name == "delta-bad-token"
                with pytest.raises(GRPCError) as refused:
                    Tokens().caller(
                        {"authorization": "Bearer bad"},
                        cluster="Kubernetes",
                        refusal="authentication failure",
                    )
                assert (refused.value.status, refused.value.message) == (line.status, line.details)
                return
            case _:
                pass
    assert waiting == []
    assert answered == sum(isinstance(line, FromIstiod) for line in lines) > 0


def translated(request: DeltaRequest, nonces: dict[str, str]) -> DeltaRequest:
    if not request.nonce:
        return request
    return DeltaRequest(type_url=request.type_url, nonce=nonces[request.nonce], error=request.error)


def pushed(cluster: Cluster, stream: AdsStream, response: WireResponse) -> list[WireResponse]:
    put = [received(each, response.type_url) for each in response.resources]
    return stream.push(cluster.change(put, [(response.type_url, n) for n in response.removed]))


def test_the_two_requests_of_a_refused_token_are_judged_by_the_token_alone() -> None:
    (lines,) = read(CONVERSATIONS / "delta-bad-token.jsonl")
    requests = [line.request for line in lines if isinstance(line, ToIstiod)]
    assert len(requests) == 2
    for request in requests:
        assert admit(request.node, ZTUNNEL) == "node-a"


@pytest.mark.parametrize(("name", "lines"), STREAMS)
def test_a_player_says_every_recorded_byte_to_a_client_that_keeps_to_the_recording(
    name: str, lines: list[Line]
) -> None:
    player = Player(lines)
    said = player.begin()
    for line in lines:
        if isinstance(line, ToIstiod):
            said += player.receive(line.request)
    assert player.done
    assert player.mistakes == []
    assert said == [
        line.raw if isinstance(line, FromIstiod) else line
        for line in lines
        if isinstance(line, FromIstiod | Ended)
    ]


def test_a_player_waits_for_the_client_and_notes_what_it_says_wrong() -> None:
    (lines,) = read(CONVERSATIONS / "delta-session.jsonl")
    first, second = (line.request for line in lines[:2] if isinstance(line, ToIstiod))
    player = Player(lines)
    assert player.begin() == []
    # The other type's request may come first.
    assert player.receive(second) == []
    (answer,) = player.receive(first)
    assert isinstance(answer, bytes)
    assert player.receive(DeltaRequest(type_url=ADDRESS, nonce="another", subscribe=["x"]))
    assert [mistake.split(": ")[1] for mistake in player.mistakes] == ["nonce", "subscribe"]
    assert not player.done


def test_recorded_events_are_kept() -> None:
    (lines,) = read(CONVERSATIONS / "delta-session.jsonl")
    notes = [line.note for line in lines if isinstance(line, Event)]
    assert notes[0] == "a pod joins service web"
    assert len(notes) == 6


def test_the_version_of_an_address_is_the_hash_of_its_bytes() -> None:
    # The algorithm's published values for no bytes and for one, then every recorded one.
    assert xxh64(b"") == 0xEF46DB3751D8E999
    assert xxh64(b"a") == 0xD24EC4F1A98C6E5B
    seen = {
        (resource.version, resource.value)
        for _, _, lines in conversations()
        for line in lines
        if isinstance(line, FromIstiod) and line.response.type_url == ADDRESS
        for resource in line.response.resources
    }
    assert len(seen) > 25
    for version, value in seen:
        assert content_version(value or b"") == version


def test_a_built_policy_has_the_bytes_that_istiod_writes() -> None:
    held = cluster_before("delta-session").get(AUTHORIZATION, strict().name)
    assert held is not None
    assert held.value == strict().value


def test_a_node_that_speaks_as_recorded_is_the_one_of_its_token() -> None:
    node = WireNode(
        id="ztunnel~10.66.0.1~zt-a.istio-system~istio-system.svc.cluster.local",
        metadata=(("NAMESPACE", "default"),),
    )
    with pytest.raises(GRPCError) as refused:
        admit(node, ZTUNNEL)
    assert refused.value.status is Status.PERMISSION_DENIED


CERTIFICATES = [
    json.loads(line)
    for line in (VECTORS / "istio_create_certificate.jsonl").read_text().splitlines()
]


@pytest.mark.asyncio
@pytest.mark.parametrize("said", CERTIFICATES, ids=lambda said: str(said["note"]))
async def test_its_authority_signs_and_refuses_as_the_real_one_did(said: dict[str, str]) -> None:
    if "status" not in said:
        assert_alike(await created(said), said["cert_chain"])
        return
    with pytest.raises(GRPCError) as refused:
        await created(said)
    assert said["status"] == f"StatusCode.{refused.value.status.name}"
    assert said["details"] == refused.value.message


async def created(said: dict[str, str]) -> tuple[str, ...]:
    """What our authority makes of the recorded request, with a key of its own."""
    tokens = Tokens()
    for text in {each["token"] for each in CERTIFICATES} - {"bad"}:
        _, namespace, account, pod = text.split(":")
        tokens.accept(text, Caller(namespace=namespace, account=account, pod=pod))
    ca = Certificates(cluster_before("delta-session"))
    wanted = said["impersonated"]
    request = CertificateRequest(
        csr=csr(said["csr_uri"]),
        validity_duration=int(said["validity_duration"]),
        metadata=(("ImpersonatedIdentity", wanted),) if wanted else (),
    )
    caller = tokens.caller(
        {"authorization": f"Bearer {said['token']}"},
        cluster="Kubernetes",
        refusal="request authenticate failure",
    )
    return await ca.create(request, caller)


def assert_alike(chain: tuple[str, ...], recorded: Sequence[str]) -> None:
    theirs = x509.load_pem_x509_certificate(recorded[0].encode())
    ours = x509.load_pem_x509_certificate(chain[0].encode())
    assert len(chain) == len(recorded)
    assert answers.names_in(chain[0]) == answers.names_in(recorded[0])
    assert ours.subject == theirs.subject
    life = ours.not_valid_after_utc - ours.not_valid_before_utc
    assert life == theirs.not_valid_after_utc - theirs.not_valid_before_utc
    kinds = (
        x509.BasicConstraints,
        x509.KeyUsage,
        x509.ExtendedKeyUsage,
        x509.SubjectAlternativeName,
    )
    for kind in kinds:
        found = ours.extensions.get_extension_for_class(kind)
        assert found == theirs.extensions.get_extension_for_class(kind)
    ours.verify_directly_issued_by(x509.load_pem_x509_certificate(chain[-1].encode()))


def test_the_verdicts_of_the_recorded_requests_are_what_they_were() -> None:
    verdicts = {}
    for name, number, lines in conversations():
        if name not in ("delta-on-demand", "delta-nack"):
            continue
        cluster, nonces = cluster_before(name), dict[str, str]()
        stream = AdsStream(cluster)
        found = []
        waiting: list[WireResponse] = []
        for line in lines:
            if isinstance(line, ToIstiod):
                step = stream.receive(translated(line.request, nonces))
                waiting += step.responses
                found.append(step.verdict)
            elif isinstance(line, FromIstiod):
                waiting += [] if waiting else pushed(cluster, stream, line.response)
                nonces[line.response.nonce] = waiting.pop(0).nonce
        verdicts[name, number] = found
    ack, first = Verdict.ACK, Verdict.FIRST
    demanded, breach = Verdict.SUBSCRIPTION, Verdict.BREACH
    assert verdicts["delta-on-demand", 0] == [
        *(first, first, ack, ack),
        *(demanded, ack, demanded, ack),
        # A workload and a service that were sent before: no answer at all.
        *(breach, breach),
        *(demanded, ack, demanded, ack),
    ]
    assert verdicts["delta-nack", 0] == [first, first, Verdict.NACK, Verdict.NACK, ack, ack]


def csr(identity: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    signed = builder.add_extension(name, critical=True).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()
