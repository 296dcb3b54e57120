"""`FakeIstiod` over real TLS gRPC, with a client that does what the test says: what users of it rely on."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpclib import GRPCError, Status
from grpclib.exceptions import StreamTerminatedError

from tests.support.ads_client import NODE, AdsClient, certificate, connected, endpoint, streaming
from ztunnel.testing.istiod import (
    ADDRESS,
    AUTHORIZATION,
    FakeIstiod,
    NotSeenError,
    answers,
    faults,
    mesh,
)
from ztunnel.testing.istiod.admission import Admission
from ztunnel.testing.istiod.port import MAX_STRIKES
from ztunnel.testing.istiod.recording import ToIstiod, read
from ztunnel.testing.istiod.stream import MAX_REQUEST
from ztunnel.wire.citadel import CertificateRequest
from ztunnel.wire.discovery import DeltaRequest
from ztunnel.wire.protobuf import NotProtobuf

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ztunnel.testing.istiod.answers import Answer

pytestmark = pytest.mark.asyncio

CONVERSATIONS = Path(__file__).parents[1] / "vectors" / "istiod" / "conversations"
WEB = mesh.workload("web", ip="10.0.0.7", node="node-a")
DENY = mesh.policy("deny", deny=True, ports=[9])


@asynccontextmanager
async def in_sync(istiod: FakeIstiod) -> AsyncIterator[AdsClient]:
    """A client that has asked for both types and taken what came."""
    async with streaming(istiod) as client:
        for type_url in (ADDRESS, AUTHORIZATION):
            await client.ask(type_url)
            await client.take(await client.hear())
        await istiod.synced()
        yield client


async def test_a_client_is_told_of_every_event_and_its_answers_can_be_waited_for() -> None:
    async with FakeIstiod() as istiod, in_sync(istiod) as client:
        istiod.put(WEB, DENY)
        address, authorization = await client.hear(), await client.hear()
        assert [address.resources[0].name, authorization.resources[0].name] == [WEB.name, DENY.name]
        await client.take(address)
        await client.refuse(authorization, "default/deny: why")
        assert await istiod.nacked(AUTHORIZATION) == "default/deny: why"
        await istiod.answered()
        (stream,) = istiod.live()
        assert stream.acks == {ADDRESS: 2, AUTHORIZATION: 1}
        assert stream.name == "ztunnel.istio-system"
        assert stream.told(ADDRESS)[-1].versions == ((WEB.name, WEB.version),)


async def test_what_does_not_happen_is_told_with_what_was_seen() -> None:
    async with FakeIstiod() as istiod, in_sync(istiod):
        with pytest.raises(NotSeenError, match=r"not within 0\.05 s: 2 streams in sync; stream 1"):
            await istiod.synced(2, within=0.05)


async def test_a_bad_token_is_refused_before_anything_is_read() -> None:
    async with FakeIstiod() as istiod, streaming(istiod, token="bad") as client:
        with pytest.raises(GRPCError) as refused:
            await client.raw()
        assert refused.value.status is Status.UNAUTHENTICATED
        assert refused.value.message == "authentication failure"
        await istiod.attempted(1)


async def test_a_node_of_another_namespace_is_refused() -> None:
    async with FakeIstiod() as istiod:
        token = istiod.tokens.issue("default", "web")
        async with streaming(istiod, token=token) as client:
            await client.ask(ADDRESS)
            with pytest.raises(GRPCError) as refused:
                await client.raw()
            assert refused.value.status is Status.PERMISSION_DENIED


async def test_a_request_of_more_than_four_mebibytes_ends_the_stream_as_grpc_go_does() -> None:
    async with FakeIstiod() as istiod, streaming(istiod) as client:
        held = [(f"{number:0>120}", "0123456789abcdef") for number in range(32_000)]
        request = DeltaRequest(type_url=ADDRESS, node=NODE, initial_versions=held)
        size = len(request.encode())
        assert size > MAX_REQUEST
        await client.say(request)
        with pytest.raises(GRPCError) as refused:
            await client.raw()
        assert refused.value.status is Status.RESOURCE_EXHAUSTED
        expected = f"grpc: received message larger than max ({size} vs. {MAX_REQUEST})"
        assert refused.value.message == expected


async def test_a_request_that_is_no_message_ends_the_stream_and_nothing_else() -> None:
    async with FakeIstiod() as istiod:
        async with streaming(istiod) as client:
            await client.stream.send_message(b"\xff\xff")
            with pytest.raises(GRPCError, match="unmarshalling"):
                await client.raw()
        async with in_sync(istiod):
            pass


async def test_streams_beyond_its_rate_are_turned_away() -> None:
    async with FakeIstiod() as istiod:
        istiod.admission = Admission(0.4)
        async with streaming(istiod) as client:
            with pytest.raises(GRPCError) as refused:
                await client.raw()
        assert refused.value.status is Status.RESOURCE_EXHAUSTED
        assert refused.value.message == "rate limit exceeded"


async def test_each_fault_of_a_script_happens_to_its_response() -> None:
    async with FakeIstiod() as istiod:
        istiod.next_stream(
            faults.Nonce("again"), faults.Garbage(), faults.Truncated(), faults.Close(), at=1
        )
        async with streaming(istiod) as client:
            await client.ask(ADDRESS)
            assert (await client.hear()).nonce == "again"
            for _ in range(2):
                istiod.put(WEB)
                with pytest.raises(NotProtobuf):
                    await client.hear()
            istiod.put(WEB)
            with pytest.raises(GRPCError) as closed:
                await client.raw()
            assert closed.value.status is Status.UNAVAILABLE
        # The script was for one stream.
        async with in_sync(istiod):
            pass


@pytest.mark.parametrize("how", ["ok", "reset", "oversized", "silence"])
async def test_a_stream_ends_or_hangs_as_it_is_told(how: str) -> None:
    every: dict[str, faults.Fault] = {
        "ok": faults.ENDS_OK,
        "reset": faults.Reset(),
        "oversized": faults.Oversized(),
        "silence": faults.Silence(),
    }
    async with FakeIstiod() as istiod:
        istiod.next_stream(every[how])
        async with streaming(istiod) as client:
            await client.ask(ADDRESS)
            if how == "ok":
                assert await client.raw() == b""
            elif how == "reset":
                with pytest.raises(StreamTerminatedError):
                    await client.raw()
            else:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await client.raw()
                assert istiod.live()


async def test_a_message_may_be_too_large_after_others_that_are_not() -> None:
    async with FakeIstiod() as istiod:
        istiod.next_stream(faults.Oversized(), at=2)
        async with streaming(istiod) as client:
            await client.ask(ADDRESS)
            await client.take(await client.hear())
            istiod.put(WEB)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await client.raw()
            assert [stream.ended for stream in istiod.observed.streams] == [None]


async def test_a_script_may_end_a_stream_before_its_first_request_is_read() -> None:
    async with FakeIstiod() as istiod:
        istiod.next_stream(faults.Close(Status.ABORTED, "at once"), at=0)
        async with streaming(istiod) as client:
            with pytest.raises(GRPCError, match="at once"):
                await client.raw()


async def test_all_streams_end_with_a_status_when_the_test_says_so() -> None:
    async with FakeIstiod() as istiod, in_sync(istiod) as client:
        istiod.end_streams(Status.UNAVAILABLE, "transport is closing")
        with pytest.raises(GRPCError, match="transport is closing"):
            await client.raw()


async def test_a_stopped_server_refuses_and_comes_back_on_its_port_with_its_root() -> None:
    async with FakeIstiod() as istiod:
        async with in_sync(istiod) as client:
            await istiod.stop()
            with pytest.raises(StreamTerminatedError):
                await client.raw()
        with pytest.raises(ConnectionRefusedError):
            async with streaming(istiod):
                pass
        await istiod.start()
        async with in_sync(istiod):
            assert len(istiod.live()) == 1


async def test_a_server_that_hangs_takes_connections_and_never_shakes_hands() -> None:
    async with FakeIstiod() as istiod:
        await istiod.port.hang()
        reader, writer = await asyncio.open_connection(istiod.port.host, istiod.port.port)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        writer.close()
        await writer.wait_closed()
        await istiod.start()
        async with in_sync(istiod):
            pass


async def test_a_frozen_server_answers_nothing_until_it_is_thawed() -> None:
    async with FakeIstiod() as istiod, in_sync(istiod) as client:
        istiod.port.freeze()
        istiod.put(WEB)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.raw()
        # New connections shake hands, and then nothing.
        async with connected(endpoint(istiod)) as connection:
            await connection.__connect__()
        istiod.port.thaw()
        # The read that timed out has taken nothing.
        await istiod.observed.wait(
            lambda: istiod.live()[0].unanswered, "the response goes out after the thaw"
        )


async def test_a_connection_that_is_too_old_is_told_to_go() -> None:
    async with FakeIstiod() as istiod:
        istiod.port.max_age, istiod.port.grace = 0.05, 5.0
        async with streaming(istiod) as client:
            with pytest.raises(StreamTerminatedError, match="GOAWAY"):
                await client.raw()


async def test_whoever_pings_too_often_is_told_to_calm_down() -> None:
    async with FakeIstiod() as istiod, in_sync(istiod) as client:
        connection = client.stream._stream.connection
        # The first, and as many too early ones as are borne.
        for _ in range(1 + MAX_STRIKES):
            connection._connection.ping(bytes(8))
        connection.flush()
        istiod.put(WEB)
        await client.hear()
        connection._connection.ping(bytes(8))
        connection.flush()
        with pytest.raises(StreamTerminatedError, match=r"GOAWAY.*error_code: 11"):
            await client.raw()


async def test_it_plays_a_recording_to_a_client() -> None:
    recording = read(CONVERSATIONS / "delta-session.jsonl")
    async with FakeIstiod() as istiod:
        (player,) = istiod.play(recording)
        async with streaming(istiod) as client:
            for line in recording[0]:
                if isinstance(line, ToIstiod):
                    await client.say(line.request)
                elif raw := getattr(line, "raw", b""):
                    assert await client.raw() == raw
            await istiod.observed.wait(lambda: player.done, "all is said")
        assert player.mistakes == []


async def test_its_certificate_has_istiods_names_and_its_roots_are_those_of_workloads() -> None:
    async with FakeIstiod() as istiod:
        context = ssl.create_default_context(cadata=istiod.certificates.bundle)
        context.set_alpn_protocols(["h2"])
        for name in ("istiod.istio-system.svc", "istio-pilot.istio-system.svc", "127.0.0.1"):
            _, writer = await asyncio.open_connection(
                istiod.port.host, istiod.port.port, ssl=context, server_hostname=name
            )
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
            writer.transport.abort()


def _request(identity: str | None = None, seconds: int = 600) -> CertificateRequest:
    key = ec.generate_private_key(ec.SECP256R1())
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    pem = csr.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    metadata = (("ImpersonatedIdentity", identity),) if identity else ()
    return CertificateRequest(csr=pem.decode(), validity_duration=seconds, metadata=metadata)


async def test_it_signs_for_its_nodes_pods_and_for_nobody_elses() -> None:
    async with FakeIstiod() as istiod:
        own = mesh.workload("zt", namespace="istio-system", account="ztunnel", node="node-a")
        istiod.put(own, WEB, mesh.workload("far", node="node-b"))
        token = istiod.tokens.issue("istio-system", "ztunnel", "zt")
        web, far = (f"spiffe://cluster.local/ns/default/sa/{name}" for name in ("web", "far"))
        chain = await certificate(istiod, _request(web), token)
        assert answers.names_in(chain[0]) == [web]
        with pytest.raises(GRPCError, match="impersonation"):
            await certificate(istiod, _request(far), token)
        # It is just scheduled here, and the cache has heard of it: no mistake is for ever.
        istiod.put(mesh.workload("far", node="node-a"))
        await certificate(istiod, _request(far), token)
        # Without a name it is the token's.
        chain = await certificate(istiod, _request(), token)
        own_name = "spiffe://cluster.local/ns/istio-system/sa/ztunnel"
        assert answers.names_in(chain[0]) == [own_name]


async def test_a_root_is_rotated_in_three_steps() -> None:
    async with FakeIstiod() as istiod:
        ca = istiod.certificates
        (old,) = ca.trusted
        new = ca.add_root()
        leaf, bundle = await certificate(istiod, _request(), istiod.token)
        assert bundle == old.pem + new.pem
        _issued_by(leaf, old.pem)
        ca.sign_with(new, intermediates=2)
        istiod.renew_server_certificate()
        leaf, first, second, bundle = await certificate(istiod, _request(), istiod.token)
        _issued_by(leaf, first)
        _issued_by(first, second)
        _issued_by(second, new.pem)
        ca.drop_root(old)
        *_, bundle = await certificate(istiod, _request(), istiod.token)
        assert bundle == new.pem


@pytest.mark.parametrize(
    ("answer", "elements"),
    [
        (answers.garbage, 2),
        (answers.no_pem, 2),
        (answers.wrong_identity("spiffe://cluster.local/ns/x/sa/x"), 2),
        (answers.other_key, 2),
        (answers.empty, 0),
        (answers.only_leaf, 1),
        (answers.expired, 2),
        (answers.wrong_order, 2),
        (answers.huge, 2),
        (answers.several_roots("another"), 2),
    ],
)
async def test_every_bad_answer_can_be_sent(answer: Answer, elements: int) -> None:
    async with FakeIstiod() as istiod:
        istiod.certificates.answer = answer
        chain = await certificate(istiod, _request(), istiod.token)
        assert len(chain) == elements
        if answer is answers.huge:
            assert len(chain[-1]) >= 1024 * 1024


async def test_an_authority_may_refuse_or_never_answer() -> None:
    async with FakeIstiod() as istiod:
        istiod.certificates.answer = answers.refusing(Status.UNAVAILABLE, "later")
        with pytest.raises(GRPCError, match="later"):
            await certificate(istiod, _request(), istiod.token)
        istiod.certificates.answer = answers.never
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await certificate(istiod, _request(), istiod.token)


def _issued_by(leaf: str, issuer: str) -> None:
    above = x509.load_pem_x509_certificate(issuer.encode())
    x509.load_pem_x509_certificate(leaf.encode()).verify_directly_issued_by(above)
