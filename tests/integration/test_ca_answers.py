"""Every form in which an authority answers well, and every way to answer badly: each its own error, nothing installed.

spec/reliability.md BI-C and spec/istio.md A3.8, over real gRPC and TLS, into the compiled data plane.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ztunnel.dataplane.native import NativeDataPlane, validity
from ztunnel.endpoint import Endpoint, RootText, TokenText
from ztunnel.errors import CaError, CredentialError
from ztunnel.identity.ca.istiod import IMPERSONATED, IstiodCa
from ztunnel.identity.spiffe import Identity
from ztunnel.testing.istio_ca import Asked, Authority, FakeIstioCa

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from ztunnel.dataplane.handle import PrivateKey
    from ztunnel.identity.ca import IssuedCertificate

WEB = Identity.parse("spiffe://cluster.local/ns/default/sa/web")
OTHER = Identity.parse("spiffe://cluster.local/ns/default/sa/other")
SETTINGS = {"workload": {"name": "web", "namespace": "default", "serviceAccount": "web"}}
NO_CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
NO_BASE64 = "-----BEGIN CERTIFICATE-----\nA===A\n-----END CERTIFICATE-----\n"
A_KEY = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nQUJD\n-----END ENCRYPTED PRIVATE KEY-----\n"

pytestmark = pytest.mark.asyncio


@pytest.fixture
def data_plane() -> Iterator[NativeDataPlane]:
    made = NativeDataPlane(json.dumps(SETTINGS).encode())
    yield made
    made.stop()


@pytest.fixture
def key(data_plane: NativeDataPlane) -> PrivateKey:
    return data_plane.new_key()


@asynccontextmanager
async def asking(server: FakeIstioCa, **more: Any) -> AsyncIterator[IstiodCa]:
    endpoint = Endpoint(
        host="127.0.0.1",
        port=server.port,
        roots=RootText(server.authority.pem),
        token=TokenText("token"),
        cluster_id="Kubernetes",
    )
    ca = IstiodCa(endpoint, lifetime=3600.0, validity=validity, deadline=10.0, **more)
    try:
        yield ca
    finally:
        ca.close()


@dataclasses.dataclass(frozen=True)
class Signer:
    """One that answers, and the two authorities that it has."""

    root: Authority
    between: Authority
    asked: Asked

    def leaf(self, signer: Authority | None = None, **more: Any) -> str:
        """What was asked for."""
        return (signer or self.root).signed(self.asked.request.csr, **more)

    def leaf_on(self, key: Any, name: Identity = WEB) -> str:
        """The name on another key."""
        return self.root.sign(key.public_key(), [x509.UniformResourceIdentifier(str(name))])

    def leaf_of(self, *names: Identity) -> str:
        """Other names on the key."""
        csr = x509.load_pem_x509_csr(self.asked.request.csr.encode())
        uris: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(n)) for n in names]
        return self.root.sign(csr.public_key(), uris)


async def install(
    data_plane: NativeDataPlane, key: PrivateKey, answer: Callable[[Signer], tuple[str, ...]]
) -> IssuedCertificate:
    """Asks, is answered so, installs what came."""
    async with FakeIstioCa() as server, asking(server) as ca:
        between = server.authority.intermediate()
        server.answer = lambda asked: answer(Signer(server.authority, between, asked))
        issued = await ca.sign(key.csr(str(WEB)), WEB)
        data_plane.install(str(WEB), key, issued.chain, issued.roots)
        return issued


def installed(data_plane: NativeDataPlane) -> list[tuple[int, int]]:
    """Of each certificate in use, how long its chain is and how many roots it trusts."""
    found = json.loads(data_plane.dump("certificates"))
    return [(len(one["certChain"]), len(one["rootCerts"])) for one in found]


@pytest.mark.parametrize(
    ("answer", "shape"),
    [
        (lambda s: (s.leaf(), s.root.pem), (1, 1)),
        (lambda s: (s.leaf(), s.root.pem + Authority().pem + Authority().pem), (1, 3)),
        (lambda s: (s.leaf(s.between), s.between.pem, s.root.pem), (2, 1)),
        (lambda s: (s.leaf(s.between), s.between.pem + Authority().pem, s.root.pem), (3, 1)),
        (lambda s: (s.leaf(s.between), Authority().pem, s.between.pem, s.root.pem), (3, 1)),
        (lambda s: tuple(e.replace("\n", "\r\n") for e in (s.leaf(), s.root.pem)), (1, 1)),
        (lambda s: (s.leaf().rstrip(), (Authority().pem + s.root.pem).rstrip()), (1, 2)),
        (lambda s: (s.leaf(), s.root.pem.rstrip() + Authority().pem), (1, 2)),
        (lambda s: (f"hello\n{s.leaf()}\nbye", f"#1\n{s.root.pem}#2\n{Authority().pem}"), (1, 2)),
        (lambda s: (A_KEY + s.leaf(), A_KEY + s.root.pem), (1, 1)),
        (lambda s: (s.leaf(), NO_CERTIFICATE + s.root.pem + NO_CERTIFICATE), (1, 1)),
        (lambda s: (s.leaf(), NO_BASE64 + s.root.pem), (1, 1)),
        (lambda s: (s.leaf(lifetime=100 * 365 * 86400.0), s.root.pem), (1, 1)),
        (lambda s: (s.leaf(), "".join(Authority().pem for _ in range(200)) + s.root.pem), (1, 201)),
    ],
    ids=[
        "leaf and root",
        "several roots in the last element",
        "an intermediate",
        "several certificates in a middle element",
        "intermediates one by one, in another order",
        "CRLF",
        "no line ends",
        "no line end between two",
        "remarks between",
        "an encrypted key between",
        "roots that are none",
        "a root that is no base64",
        "a hundred years",
        "two hundred roots",
    ],
)
async def test_every_form_of_a_good_answer_is_understood(
    data_plane: NativeDataPlane,
    key: PrivateKey,
    answer: Callable[[Signer], tuple[str, ...]],
    shape: tuple[int, int],
) -> None:
    await install(data_plane, key, answer)
    assert installed(data_plane) == [shape]


def _der(pem: str) -> str:
    """A certificate as its bytes, as far as a text can have them."""
    return base64.b64decode("".join(pem.splitlines()[1:-1])).decode("latin-1")


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (lambda s: (), CaError, "chain returned from CA is empty"),
        (lambda s: (s.leaf(),), CaError, "has one element and so no root"),
        (lambda s: ("", s.root.pem), CaError, "no certificate in the bundle"),
        (lambda s: (s.leaf(), ""), CredentialError, "no root certificate present"),
        (lambda s: ("garbage", "garbage"), CaError, "no certificate in the bundle"),
        (lambda s: (_der(s.leaf()), s.root.pem), CaError, "no certificate in the bundle"),
        (lambda s: (s.leaf(), "garbage", s.root.pem), CaError, "no certificate in the bundle"),
        (lambda s: (NO_CERTIFICATE, s.root.pem), CredentialError, "chain: not X.509"),
        (lambda s: (NO_BASE64, s.root.pem), CredentialError, "invalid certificate chain: "),
        (lambda s: (s.leaf()[:300], s.root.pem), CaError, "no certificate in the bundle"),
        (lambda s: (s.leaf(), NO_CERTIFICATE), CredentialError, "no root certificate present"),
        (lambda s: (s.root.pem, s.leaf()), CredentialError, f"expected SAN: {WEB}, got none"),
        (
            lambda s: (s.between.pem, s.leaf(s.between), s.root.pem),
            CredentialError,
            f"expected SAN: {WEB}, got none",
        ),
        (
            lambda s: (s.leaf_of(OTHER), s.root.pem),
            CredentialError,
            f"did not find expected SAN: {WEB}, got {OTHER}",
        ),
        (
            lambda s: (s.leaf_of(WEB, OTHER), s.root.pem),
            CredentialError,
            f"did not find expected SAN: {WEB}, got {WEB},{OTHER}",
        ),
        (
            lambda s: (s.leaf_on(ec.generate_private_key(ec.SECP256R1())), s.root.pem),
            CredentialError,
            "issued for another key",
        ),
        (
            lambda s: (s.leaf_on(rsa.generate_private_key(65537, 2048)), s.root.pem),
            CredentialError,
            "issued for another key",
        ),
        (
            lambda s: (s.leaf_on(ed25519.Ed25519PrivateKey.generate()), s.root.pem),
            CredentialError,
            "issued for another key",
        ),
        (
            lambda s: (s.leaf(s.between), s.root.pem),
            CredentialError,
            "does not lead to a root of the bundle: unknown_root",
        ),
        (
            lambda s: (s.leaf(), Authority().pem),
            CredentialError,
            "does not lead to a root of the bundle: unknown_root",
        ),
        (
            lambda s: (s.leaf(), s.root.pem + " " * (1 << 20)),
            CredentialError,
            "PEM text is too large",
        ),
        (lambda s: (s.leaf() + " " * 10_000_000, s.root.pem), CaError, "larger than 4 MiB"),
        (
            lambda s: (s.leaf() + " " * (17 << 20), s.root.pem),
            CaError,
            "answers with more than 16 MiB: 178",
        ),
        (
            lambda s: (s.leaf() + _many(1000), s.root.pem),
            CaError,
            "more than 500 certificates in the bundle: 1001",
        ),
        (
            lambda s: (s.leaf(), *(Authority().pem for _ in range(12)), s.root.pem),
            CredentialError,
            "invalid certificate chain: more than 10",
        ),
    ],
    ids=[
        "nothing",
        "only the leaf",
        "an empty leaf",
        "an empty bundle",
        "garbage",
        "DER",
        "garbage as an intermediate",
        "a leaf that is no certificate",
        "a leaf that is no base64",
        "half a leaf",
        "a bundle of nothing",
        "the root first",
        "the intermediate first",
        "another identity",
        "two identities",
        "another key",
        "an RSA leaf",
        "an Ed25519 leaf",
        "an intermediate missing",
        "another root",
        "1 MiB of PEM",
        "10 MB of PEM",
        "17 MiB of PEM",
        "1,000 certificates",
        "a long chain",
    ],
)
async def test_every_bad_answer_has_its_own_error_and_leaves_what_is_in_use(
    data_plane: NativeDataPlane,
    key: PrivateKey,
    answer: Callable[[Signer], tuple[str, ...]],
    kind: type[Exception],
    message: str,
) -> None:
    await install(data_plane, key, lambda s: (s.leaf(), s.root.pem))
    before = data_plane.dump("certificates")
    with pytest.raises(kind) as caught:
        await install(data_plane, key, answer)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 500, "what a peer says does not fill the log"
    assert data_plane.dump("certificates") == before


def _many(count: int) -> str:
    """Certificates by their form; nobody looks into them before they are counted."""
    return "".join(NO_CERTIFICATE.replace("AAAA", f"{n:08d}") for n in range(count))


async def test_a_nodes_proxy_says_for_whom_it_asks_and_gets_that(
    data_plane: NativeDataPlane, key: PrivateKey
) -> None:
    async with FakeIstioCa() as server, asking(server, impersonates=True) as ca:
        issued = await ca.sign(key.csr(str(WEB)), WEB)
        data_plane.install(str(WEB), key, issued.chain, issued.roots)
        (asked,) = server.asked
        assert asked.request.metadata == ((IMPERSONATED, str(WEB)),)


async def test_an_authority_that_signs_for_the_token_whatever_is_asked_is_found_out(
    data_plane: NativeDataPlane, key: PrivateKey
) -> None:
    """Recorded: without impersonation istiod signs the identity of the token."""
    with pytest.raises(CredentialError, match="did not find expected SAN"):
        await install(data_plane, key, lambda s: (s.leaf_of(OTHER), s.root.pem))
    assert installed(data_plane) == []


async def test_when_a_leaf_counts_is_read_from_the_leaf(
    data_plane: NativeDataPlane, key: PrivateKey
) -> None:
    issued = await install(data_plane, key, lambda s: (s.leaf(lifetime=60.0), s.root.pem))
    ends = datetime.fromtimestamp(issued.not_after, UTC)
    assert timedelta(seconds=50) < ends - datetime.now(UTC) <= timedelta(seconds=60)
    assert issued.not_before < issued.not_after
    leaf = x509.load_pem_x509_certificate(issued.chain)
    assert issued.not_before == leaf.not_valid_before_utc.timestamp()
    key_bytes = leaf.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    csr = x509.load_pem_x509_csr(key.csr(str(WEB)))
    assert key_bytes == csr.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
