"""The CA client over real TLS, against an authority that obeys, refuses, waits, lies or is not there."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
import socket
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from grpclib import GRPCError, Status

from ztunnel.dataplane.native import NativeDataPlane, validity
from ztunnel.endpoint import Endpoint, RootFile, RootText, TokenFile, TokenText
from ztunnel.errors import CaError, CaRefusal, CaUnavailable, CredentialError
from ztunnel.identity.ca.istiod import IstiodCa
from ztunnel.identity.spiffe import Identity
from ztunnel.testing.istio_ca import Asked, Authority, FakeIstioCa

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from ztunnel.dataplane.handle import PrivateKey

WEB = Identity.parse("spiffe://cluster.local/ns/default/sa/web")
DEADLINE = 15.0
OTHER = "spiffe://cluster.local/ns/default/sa/other"
CAPTURE = Path(__file__).parents[1] / "vectors" / "istio_create_certificate.jsonl"
SETTINGS = {"workload": {"name": "web", "namespace": "default", "serviceAccount": "web"}}

# What may be another answer a little later; the rest is told as a refusal, and asked again all the same.
PASSING = (
    Status.ABORTED,
    Status.CANCELLED,
    Status.DEADLINE_EXCEEDED,
    Status.RESOURCE_EXHAUSTED,
    Status.UNAUTHENTICATED,
    Status.UNAVAILABLE,
)

pytestmark = pytest.mark.asyncio


def endpoint(server: FakeIstioCa, **more: Any) -> Endpoint:
    found = Endpoint(
        host="127.0.0.1",
        port=server.port,
        roots=RootText(server.authority.pem),
        token=TokenText("token"),
        cluster_id="Kubernetes",
    )
    return dataclasses.replace(found, **more)


@asynccontextmanager
async def asking(
    server: FakeIstioCa, *, deadline: float = 5.0, lifetime: float = 3600.0, **more: Any
) -> AsyncIterator[IstiodCa]:
    ca = IstiodCa(endpoint(server, **more), lifetime=lifetime, validity=validity, deadline=deadline)
    try:
        yield ca
    finally:
        ca.close()


@pytest.fixture
def data_plane() -> Iterator[NativeDataPlane]:
    made = NativeDataPlane(json.dumps(SETTINGS).encode())
    yield made
    made.stop()


@pytest.fixture
def key(data_plane: NativeDataPlane) -> PrivateKey:
    return data_plane.new_key()


async def test_what_is_signed_can_be_installed(
    data_plane: NativeDataPlane, key: PrivateKey
) -> None:
    async with FakeIstioCa() as server, asking(server, lifetime=600) as ca:
        issued = await ca.sign(key.csr(str(WEB)), WEB)
        data_plane.install(str(WEB), key, issued.chain, issued.roots)
        now = time.time()
        assert issued.not_before < now
        assert issued.not_after == pytest.approx(now + 600, abs=5)
        (asked,) = server.asked
        names = x509.load_pem_x509_csr(asked.request.csr.encode()).extensions
        assert [e.critical for e in names] == [True]
        assert asked.request.validity_duration == 600
        assert asked.request.metadata == ()
        assert asked.headers["authorization"] == "Bearer token"
        assert asked.headers["clusterid"] == "Kubernetes"


async def test_one_connection_serves_many_requests(key: PrivateKey) -> None:
    async with FakeIstioCa() as server, asking(server) as ca:
        csr = key.csr(str(WEB))
        before = _sockets()
        await asyncio.gather(*(ca.sign(csr, WEB) for _ in range(8)))
        await ca.sign(csr, WEB)
        assert len(server.asked) == 9
        assert _sockets() - before == 2  # ours and the server's


async def test_the_token_is_read_for_each_request(key: PrivateKey, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first\n")
    async with FakeIstioCa() as server, asking(server, token=TokenFile(path)) as ca:
        server.token = "first"
        await ca.sign(key.csr(str(WEB)), WEB)
        server.token = "second"
        with pytest.raises(
            CaUnavailable, match="UNAUTHENTICATED: request authenticate failure; check AUTH_TOKEN"
        ):
            await ca.sign(key.csr(str(WEB)), WEB)
        path.write_text("second\n")
        await ca.sign(key.csr(str(WEB)), WEB)
        path.write_text("")
        with pytest.raises(CaError, match="is empty"):
            await ca.sign(key.csr(str(WEB)), WEB)


async def test_further_headers_are_sent_and_none_is_needed(key: PrivateKey) -> None:
    async with (
        FakeIstioCa() as server,
        asking(server, token=None, headers=(("x_foo", "bar"),)) as ca,
    ):
        await ca.sign(key.csr(str(WEB)), WEB)
        assert server.asked[0].headers["x_foo"] == "bar"
        assert "authorization" not in server.asked[0].headers


async def test_an_intermediate_is_part_of_the_chain_and_roots_may_be_several(
    data_plane: NativeDataPlane, key: PrivateKey
) -> None:
    async with FakeIstioCa() as server, asking(server) as ca:
        between = server.authority.intermediate()

        def answer(asked: Asked) -> tuple[str, ...]:
            leaf = between.signed(asked.request.csr)
            # As istiod does it: no line end after the leaf, all roots in the last element.
            return leaf.rstrip(), between.pem, server.authority.pem + Authority().pem

        server.answer = answer
        issued = await ca.sign(key.csr(str(WEB)), WEB)
        assert issued.chain.count(b"-----BEGIN CERTIFICATE-----\n") == 2
        assert issued.roots.count(b"-----BEGIN CERTIFICATE-----\n") == 2
        data_plane.install(str(WEB), key, issued.chain, issued.roots)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda asked: (), "chain returned from CA is empty"),
        (lambda asked: (Authority().pem,), "has one element and so no root"),
        (lambda asked: ("hello", Authority().pem), "no certificate in the bundle"),
    ],
)
async def test_an_answer_that_is_no_chain_is_refused(
    key: PrivateKey, answer: Callable[[Asked], tuple[str, ...]], message: str
) -> None:
    async with FakeIstioCa() as server, asking(server) as ca:
        server.answer = answer
        with pytest.raises(CaError, match=message):
            await ca.sign(key.csr(str(WEB)), WEB)


async def test_a_certificate_for_somebody_else_is_not_installed(
    data_plane: NativeDataPlane, key: PrivateKey
) -> None:
    async with FakeIstioCa() as server, asking(server) as ca:

        def answer(asked: Asked) -> tuple[str, ...]:
            csr = x509.load_pem_x509_csr(asked.request.csr.encode())
            names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(OTHER)]
            return server.authority.sign(csr.public_key(), names), server.authority.pem

        server.answer = answer
        issued = await ca.sign(key.csr(str(WEB)), WEB)
        with pytest.raises(CredentialError, match=r"did not find expected SAN: .*web, got .*other"):
            data_plane.install(str(WEB), key, issued.chain, issued.roots)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, CaUnavailable) for status in PASSING),
        *((s, CaRefusal) for s in Status if s not in PASSING and s is not Status.OK),
    ],
)
async def test_what_the_server_says_instead_of_an_answer_reaches_the_log(
    key: PrivateKey, status: Status, kind: type[CaError]
) -> None:
    def answer(asked: Asked) -> tuple[str, ...]:
        raise GRPCError(status, "because of this")

    async with FakeIstioCa() as server, asking(server) as ca:
        server.answer = answer
        with pytest.raises(kind, match=f"answered {status.name}: because of this") as caught:
            await ca.sign(key.csr(str(WEB)), WEB)
        assert f"127.0.0.1:{server.port}" in str(caught.value)


async def test_an_authority_that_is_down_is_asked_again_when_it_is_up(key: PrivateKey) -> None:
    async with FakeIstioCa() as server, asking(server) as ca:
        await ca.sign(key.csr(str(WEB)), WEB)
        await server.stop()
        with pytest.raises(CaUnavailable, match=r"no connection to 127\.0\.0\.1:"):
            await ca.sign(key.csr(str(WEB)), WEB)
        await server.start()
        await ca.sign(key.csr(str(WEB)), WEB)
        assert len(server.asked) == 2


async def test_a_slow_authority_costs_the_deadline_and_no_more(key: PrivateKey) -> None:
    async with FakeIstioCa() as server, asking(server, deadline=0.2) as ca:
        server.answering.clear()
        # The authority does not answer before it is told to: without a deadline this would not end.
        with pytest.raises(CaUnavailable, match=r"no answer within 0\.2 s"):
            await ca.sign(key.csr(str(WEB)), WEB)
        server.answering.set()


async def test_a_request_that_hangs_does_not_cut_those_beside_it(key: PrivateKey) -> None:
    async with FakeIstioCa() as server, asking(server, deadline=DEADLINE) as ca:
        idle = _sockets()
        server.answering.clear()
        async with asyncio.TaskGroup() as group:
            beside = group.create_task(ca.sign(key.csr(str(WEB)), WEB))
            await until(lambda: len(server.asked) == 1)
            ca._deadline = 0.2
            with pytest.raises(CaUnavailable, match=r"no answer within 0\.2 s"):
                await ca.sign(key.csr(str(WEB)), WEB)
            server.answering.set()
            assert (await beside).chain
            # And whoever comes next has a connection of its own, as that one may lead nowhere.
            ca._deadline = DEADLINE
            await ca.sign(key.csr(str(WEB)), WEB)
        await until(lambda: _sockets() - idle == 2)  # ours and the server's, of the last connection


async def test_changed_roots_do_not_cut_a_request_under_way(
    key: PrivateKey, tmp_path: Path
) -> None:
    path = tmp_path / "root.pem"
    async with FakeIstioCa() as server:
        path.write_text(server.authority.pem)
        async with asking(server, deadline=DEADLINE, roots=RootFile(path)) as ca:
            server.answering.clear()
            async with asyncio.TaskGroup() as group:
                before = group.create_task(ca.sign(key.csr(str(WEB)), WEB))
                await until(lambda: len(server.asked) == 1)
                path.write_text(server.authority.pem + Authority().pem)
                after = group.create_task(ca.sign(key.csr(str(WEB)), WEB))
                await until(lambda: len(server.asked) == 2)
                server.answering.set()
            assert before.result().chain
            assert after.result().chain


async def test_a_server_that_never_shakes_hands_costs_a_deadline(
    key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ztunnel.wire.connection.HANDSHAKE", 0.2)
    # The kernel takes the connection and nobody ever accepts it.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = FakeIstioCa(port=silent.getsockname()[1])
        async with asking(server) as ca:
            with pytest.raises(CaUnavailable, match=r"no connection to .*handshake"):
                await ca.sign(key.csr(str(WEB)), WEB)


async def test_a_server_that_others_vouch_for_is_not_trusted(key: PrivateKey) -> None:
    async with FakeIstioCa() as server, asking(server, roots=RootText(Authority().pem)) as ca:
        with pytest.raises(CaError, match="is not trusted; check CA_ROOT_CA"):
            await ca.sign(key.csr(str(WEB)), WEB)
        assert server.asked == []


async def test_the_name_must_be_the_hosts_or_the_other_one(key: PrivateKey) -> None:
    async with FakeIstioCa(names=("istiod.istio-system.svc",)) as server:
        async with asking(server) as ca:
            with pytest.raises(CaError, match="is not trusted"):
                await ca.sign(key.csr(str(WEB)), WEB)
        async with asking(server, other_name="istiod.elsewhere.svc") as ca:
            with pytest.raises(CaError, match=r"not for 127\.0\.0\.1 or istiod\.elsewhere\.svc"):
                await ca.sign(key.csr(str(WEB)), WEB)
        async with asking(server, other_name="istiod.istio-system.svc") as ca:
            await ca.sign(key.csr(str(WEB)), WEB)


async def test_a_changed_file_of_roots_counts_from_the_next_request_on(
    key: PrivateKey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "root.pem"
    async with FakeIstioCa() as server:
        path.write_text(server.authority.pem)
        async with asking(server, roots=RootFile(path)) as ca:
            await ca.sign(key.csr(str(WEB)), WEB)
            # A file in the making: what was good stays in use.
            path.write_text("-----BEGIN CERT")
            await ca.sign(key.csr(str(WEB)), WEB)
            assert "the roots stay as they were" in caplog.messages
            path.write_text(Authority().pem)
            with pytest.raises(CaError, match="is not trusted"):
                await ca.sign(key.csr(str(WEB)), WEB)
            path.write_text(server.authority.pem)
            await ca.sign(key.csr(str(WEB)), WEB)


async def test_roots_that_cannot_be_used_are_known_before_the_first_request(tmp_path: Path) -> None:
    server = FakeIstioCa(port=1)
    async with asking(server, roots=RootFile(tmp_path / "none")) as ca:
        with pytest.raises(CaError, match="roots cannot be read"):
            await ca.open()


async def test_the_answers_of_a_real_authority_are_understood(key: PrivateKey) -> None:
    async with FakeIstioCa() as server, asking(server) as ca:
        for line in CAPTURE.read_text().splitlines():
            said = json.loads(line)
            server.answer = lambda asked, said=said: _replayed(said)  # type: ignore[misc]
            if "status" in said:
                status = said["status"].removeprefix("StatusCode.")
                expected = re.escape(f"answered {status}: {said['details']}")
                with pytest.raises((CaRefusal, CaUnavailable), match=expected):
                    await ca.sign(key.csr(str(WEB)), WEB)
                continue
            issued = await ca.sign(key.csr(str(WEB)), WEB)
            leaf, roots = said["cert_chain"]
            assert issued.chain.decode() == leaf
            assert issued.roots.decode() == roots
            certificate = x509.load_pem_x509_certificate(leaf.encode())
            assert issued.not_before == certificate.not_valid_before_utc.timestamp()
            assert issued.not_after == certificate.not_valid_after_utc.timestamp()


def _replayed(said: dict[str, Any]) -> tuple[str, ...]:
    if "status" in said:
        raise GRPCError(Status[said["status"].removeprefix("StatusCode.")], said["details"])
    return tuple(said["cert_chain"])


async def until(condition: Callable[[], bool]) -> None:
    """Waits for what the server does in this event loop."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)


def _sockets() -> int:
    kinds = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            kinds.append(str(entry.readlink()).partition(":")[0])
    return kinds.count("socket")
