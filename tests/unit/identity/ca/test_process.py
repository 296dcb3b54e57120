"""The built-in authority as nodes run it: in a child process."""

from __future__ import annotations

import os
import re
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ztunnel.errors import CaFolderError, CaRefusal, CaUnavailable
from ztunnel.identity.ca.child import Child
from ztunnel.identity.ca.process import ProcessCa
from ztunnel.identity.spiffe import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator

WEB = Identity.parse("spiffe://cluster.local/ns/default/sa/web")


def csr(identity: Identity) -> bytes:
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.add_extension(names, critical=True).sign(
        ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()
    )
    return request.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def ca(tmp_path: Path) -> Iterator[ProcessCa]:
    one = ProcessCa(tmp_path / "ca", trust_domain="cluster.local", leaf_lifetime=3600)
    yield one
    one.close()


def children() -> set[str]:
    """Processes that this one has started and that still exist, zombies as well."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        found.update((task / "children").read_text().split())
    return found


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.mark.asyncio
async def test_a_child_signs_and_is_gone(ca: ProcessCa) -> None:
    await ca.open()
    issued = await ca.sign(csr(WEB), WEB)
    leaf = x509.load_pem_x509_certificate(issued.chain)
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(issued.roots))
    assert leaf.not_valid_after_utc.timestamp() == issued.not_after
    assert children() == set()


@pytest.mark.asyncio
async def test_the_second_certificate_comes_from_a_second_child_and_the_same_root(
    ca: ProcessCa,
) -> None:
    first, second = await ca.sign(csr(WEB), WEB), await ca.sign(csr(WEB), WEB)
    assert first.roots == second.roots
    assert first.chain != second.chain


@pytest.mark.asyncio
async def test_a_refusal_comes_out_in_the_words_of_the_child(ca: ProcessCa) -> None:
    other = Identity("cluster.local", "default", "other")
    with pytest.raises(CaRefusal, match=r"does not ask for .*/sa/other alone"):
        await ca.sign(csr(WEB), other)
    assert (await ca.sign(csr(WEB), WEB)).chain


@pytest.mark.asyncio
async def test_a_folder_that_cannot_be_used_is_told_when_it_is_opened(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("a file")
    ca = ProcessCa(tmp_path / "ca", trust_domain="cluster.local", leaf_lifetime=3600)
    with pytest.raises(CaFolderError, match="the CA folder cannot be used"):
        await ca.open()
    assert children() == set()


@pytest.mark.asyncio
async def test_a_child_that_dies_is_a_failure_and_the_next_one_signs(ca: ProcessCa) -> None:
    await ca.open()
    for child in children():
        os.kill(int(child), signal.SIGKILL)
    with pytest.raises(CaUnavailable, match="ended without an answer"):
        await ca.sign(csr(WEB), WEB)
    assert (await ca.sign(csr(WEB), WEB)).chain


@pytest.mark.asyncio
async def test_closing_ends_the_child_that_waits(ca: ProcessCa) -> None:
    await ca.open()
    assert len(children()) == 1
    ca.close()
    assert children() == set()


@pytest.mark.asyncio
async def test_without_a_folder_one_child_keeps_the_root_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ca = ProcessCa(None, trust_domain="cluster.local", leaf_lifetime=3600)
    try:
        await ca.open()
        first = await ca.sign(csr(WEB), WEB)
        with pytest.raises(CaRefusal):
            await ca.sign(b"nonsense", WEB)
        second = await ca.sign(csr(WEB), WEB)
        assert first.roots == second.roots
        leaf = x509.load_pem_x509_certificate(second.chain)
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(second.roots))
        assert entries(tmp_path) == []
        # Two proxies do not trust each other: there is no key that somebody else could have.
        other = ProcessCa(None, trust_domain="cluster.local", leaf_lifetime=3600)
        assert (await other.sign(csr(WEB), WEB)).roots != first.roots
        other.close()
    finally:
        ca.close()
    assert children() == set()


@pytest.mark.asyncio
async def test_a_root_in_memory_is_made_anew_when_its_child_is_gone() -> None:
    ca = ProcessCa(None, trust_domain="cluster.local", leaf_lifetime=3600)
    try:
        first = await ca.sign(csr(WEB), WEB)
        (child,) = children()
        os.kill(int(child), signal.SIGKILL)
        with pytest.raises(CaUnavailable):
            await ca.sign(csr(WEB), WEB)
        assert (await ca.sign(csr(WEB), WEB)).roots != first.roots
    finally:
        ca.close()


def test_a_child_leaves_no_core_as_it_is_given_a_key() -> None:
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("nobody here may leave a core: there is nothing to forbid")
    child = Child()
    try:
        # Answered: so it has come to the key.
        child.open({"directory": None, "trustDomain": "cluster.local", "leafLifetime": 3600})
        (pid,) = children()
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
    finally:
        child.end()
