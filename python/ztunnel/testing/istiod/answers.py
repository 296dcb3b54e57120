"""What a CA may answer instead of an honest chain; each is given to `FakeIstiod.certificates.answer`.

istiod.certificates.answer = answers.wrong_identity("spiffe://cluster.local/ns/default/sa/other")
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from grpclib import GRPCError, Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ztunnel.testing.istiod.issuing import Signing

Chain: TypeAlias = tuple[str, ...]
Answer: TypeAlias = "Callable[[Signing], Chain | Awaitable[Chain]]"


def honest(signing: Signing) -> Chain:
    """The leaf, each intermediate, and the bundle of roots in one element, as istiod has it."""
    return signing.leaf(), *signing.above


def garbage(signing: Signing) -> Chain:
    """A leaf that is no certificate."""
    return "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", *signing.above


def no_pem(signing: Signing) -> Chain:
    """A leaf that is not even PEM."""
    return "hello", *signing.above


def wrong_identity(identity: str) -> Answer:
    """A leaf for somebody else."""
    return lambda signing: (signing.leaf(identity=identity), *signing.above)


def other_key(signing: Signing) -> Chain:
    """A leaf for a key that the client does not have."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return signing.leaf(key=key), *signing.above


def empty(signing: Signing) -> Chain:
    """No chain at all."""
    del signing
    return ()


def only_leaf(signing: Signing) -> Chain:
    """No root."""
    return (signing.leaf(),)


def expired(signing: Signing) -> Chain:
    """A leaf that was good until half a minute ago."""
    return signing.leaf(seconds=-30.0), *signing.above


def wrong_order(signing: Signing) -> Chain:
    """The roots first and the leaf last."""
    return tuple(reversed(honest(signing)))


def huge(signing: Signing) -> Chain:
    """The leaf, and 1 MiB of roots after it."""
    *between, roots = signing.above
    return signing.leaf(), *between, roots * (1024 * 1024 // len(roots) + 1)


def several_roots(*others: str) -> Answer:
    """More roots in the last element than those that the CA has."""

    def answer(signing: Signing) -> Chain:
        *between, roots = signing.above
        return signing.leaf(), *between, roots + "".join(others)

    return answer


async def never(signing: Signing) -> Chain:
    """The call hangs, until its client or the server goes."""
    del signing
    await asyncio.get_running_loop().create_future()
    raise AssertionError("nobody resolves this future")


def refusing(status: Status, message: str = "the authority is told to fail") -> Answer:
    """A status."""

    def answer(signing: Signing) -> Chain:
        del signing
        raise GRPCError(status, message)

    return answer


def names_in(certificate: str) -> list[str]:
    """The SPIFFE IDs in a leaf."""
    loaded = x509.load_pem_x509_certificate(certificate.encode())
    names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.UniformResourceIdentifier)
