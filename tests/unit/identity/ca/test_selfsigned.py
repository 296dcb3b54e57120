"""The built-in authority: what it signs, what it refuses, what its folder must be like."""

from __future__ import annotations

import multiprocessing
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from ztunnel.errors import CaError, CaFolderError, CaRefusal
from ztunnel.identity.ca.selfsigned import SelfSignedCa
from ztunnel.identity.spiffe import Identity

WEB = Identity.parse("spiffe://cluster.local/ns/default/sa/web")
KEY = ec.generate_private_key(ec.SECP256R1())
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()
DAY = 86400.0

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def csr(*names: str, key: Key = KEY, extra: x509.ExtensionType | None = None) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        uris = [x509.UniformResourceIdentifier(name) for name in names]
        builder = builder.add_extension(x509.SubjectAlternativeName(uris), critical=True)
    if extra is not None:
        builder = builder.add_extension(extra, critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM)


def opened(
    directory: Path, *, lifetime: float = DAY, wall: float = NOON, domain: str = "cluster.local"
) -> SelfSignedCa:
    return SelfSignedCa.open(
        directory, trust_domain=domain, leaf_lifetime=lifetime, wall=lambda: wall
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A CA folder that has been used."""
    opened(tmp_path / "ca")
    return tmp_path / "ca"


def test_a_leaf_is_an_svid_for_exactly_one_identity(folder: Path) -> None:
    issued = opened(folder).issue(csr(str(WEB)), WEB)
    leaf = x509.load_pem_x509_certificate(issued.chain)
    root = x509.load_pem_x509_certificate(issued.roots)
    leaf.verify_directly_issued_by(root)
    name = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(name.value) == [x509.UniformResourceIdentifier(str(WEB))]
    assert name.critical
    assert len(leaf.subject) == 0
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.public_key() == KEY.public_key()


def test_the_times_that_are_reported_are_those_in_the_leaf(folder: Path) -> None:
    issued = opened(folder, wall=NOON + 0.7).issue(csr(str(WEB)), WEB)
    leaf = x509.load_pem_x509_certificate(issued.chain)
    assert leaf.not_valid_before_utc.timestamp() == issued.not_before == NOON - 60
    assert leaf.not_valid_after_utc.timestamp() == issued.not_after == NOON + DAY


def test_the_half_life_of_a_short_lived_leaf_is_still_to_come(folder: Path) -> None:
    issued = opened(folder, lifetime=8).issue(csr(str(WEB)), WEB)
    assert (issued.not_before, issued.not_after) == (NOON - 2, NOON + 8)


def test_a_leaf_never_outlives_its_root(folder: Path) -> None:
    late = NOON + 3650 * DAY - 10
    issued = opened(folder, wall=late).issue(csr(str(WEB)), WEB)
    assert issued.not_after == NOON + 3650 * DAY


def test_a_root_that_ends_while_the_node_runs_signs_no_more(folder: Path) -> None:
    times = iter([NOON, NOON + 3651 * DAY])
    ca = SelfSignedCa.open(
        folder, trust_domain="cluster.local", leaf_lifetime=DAY, wall=lambda: next(times)
    )
    with pytest.raises(CaError, match="the root certificate ended on 2035-12-30"):
        ca.issue(csr(str(WEB)), WEB)


def test_serial_numbers_differ(folder: Path) -> None:
    ca = opened(folder)
    serials = {
        x509.load_pem_x509_certificate((ca.issue(csr(str(WEB)), WEB)).chain).serial_number
        for _ in range(5)
    }
    assert len(serials) == 5


def tampered() -> bytes:
    """A request whose signature is another's."""
    good = x509.load_pem_x509_csr(csr(str(WEB)))
    der = bytearray(good.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    try:
        return x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)
    except ValueError:  # the flipped bit made the signature unreadable: as good
        return b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"


@pytest.mark.parametrize(
    ("request_pem", "message"),
    [
        (b"", "not a signing request in PEM"),
        (b"x" * 20_000, "a signing request larger than 16384 bytes: 20000"),
        (csr(str(WEB)).replace(b"M", b"?"), "not a signing request in PEM"),
        (tampered(), "not signed by its own key"),
        (csr(), "does not ask for spiffe://cluster.local/ns/default/sa/web alone: none"),
        (
            csr("spiffe://cluster.local/ns/default/sa/admin"),
            "alone: spiffe://cluster.local/ns/default/sa/admin",
        ),
        (csr(str(WEB), "spiffe://cluster.local/ns/default/sa/admin"), "does not ask for .* alone"),
        (csr(str(WEB), str(WEB)), "does not ask for .* alone"),
        (
            csr(str(WEB), extra=x509.BasicConstraints(ca=True, path_length=None)),
            "more than a name: 2.5.29.19",
        ),
        (csr(str(WEB), key=rsa.generate_private_key(65537, 2048)), "not an ECDSA P-256 key"),
        (csr(str(WEB), key=ed25519.Ed25519PrivateKey.generate()), "not an ECDSA P-256 key"),
        (csr(str(WEB), key=ec.generate_private_key(ec.SECP384R1())), "not an ECDSA P-256 key"),
    ],
)
def test_a_request_for_anything_else_is_refused(
    folder: Path, request_pem: bytes, message: str
) -> None:
    with pytest.raises(CaRefusal, match=message):
        opened(folder).issue(request_pem, WEB)


def test_an_identity_of_another_trust_domain_is_refused(folder: Path) -> None:
    stranger = Identity.parse("spiffe://other.mesh/ns/default/sa/web")
    with pytest.raises(CaRefusal, match=r"not an identity of trust domain cluster\.local"):
        opened(folder).issue(csr(str(stranger)), stranger)


# The folder


def test_the_key_is_for_its_owner_only_and_nothing_else_is_left(folder: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"root-key.pem": 0o600, "root.pem": 0o644, ".lock": 0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_is_opened_again_with_the_same_root(folder: Path) -> None:
    before = (folder / "root.pem").read_bytes()
    opened(folder)
    assert (folder / "root.pem").read_bytes() == before


def open_in_process(folder: str, results: multiprocessing.SimpleQueue[bytes]) -> None:
    opened(Path(folder))
    results.put((Path(folder) / "root.pem").read_bytes())


def test_nodes_that_start_together_on_a_new_folder_share_one_root(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results: multiprocessing.SimpleQueue[bytes] = context.SimpleQueue()
    arguments = (str(tmp_path / "ca"), results)
    processes = [context.Process(target=open_in_process, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    roots = {results.get() for _ in processes}
    for process in processes:
        process.join()
    assert len(roots) == 1


def test_further_roots_in_the_file_are_trusted_as_well(folder: Path, tmp_path: Path) -> None:
    opened(tmp_path / "old")
    old = (tmp_path / "old" / "root.pem").read_bytes()
    with (folder / "root.pem").open("ab") as file:
        file.write(b"# the root before this one\n" + old)
    issued = opened(folder).issue(csr(str(WEB)), WEB)
    assert len(x509.load_pem_x509_certificates(issued.roots)) == 2
    assert old in issued.roots


def damage_key(folder: Path) -> None:
    (folder / "root-key.pem").write_bytes(b"junk")


def damage_root(folder: Path) -> None:
    (folder / "root.pem").write_bytes(
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    )


def empty_root(folder: Path) -> None:
    (folder / "root.pem").write_bytes(b"")


def key_of_another(folder: Path) -> None:
    opened(folder.parent / "other")
    (folder / "root-key.pem").write_bytes((folder.parent / "other" / "root-key.pem").read_bytes())


def key_of_another_kind(folder: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "root-key.pem").write_bytes(pem)


def lose_key(folder: Path) -> None:
    (folder / "root-key.pem").unlink()


def lose_root(folder: Path) -> None:
    (folder / "root.pem").unlink()


def show_key(folder: Path) -> None:
    (folder / "root-key.pem").chmod(0o640)


def open_folder(folder: Path) -> None:
    folder.chmod(0o777)


def file_for_folder(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("x")


def pipe_for_key(folder: Path) -> None:
    (folder / "root-key.pem").unlink()
    os.mkfifo(folder / "root-key.pem", 0o600)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damage_key, "the CA's key is damaged or not a PEM private key"),
        (damage_root, "the CA's certificate is damaged or not PEM"),
        (empty_root, "the CA's certificate is damaged or not PEM"),
        (key_of_another, "the CA's key and certificate do not belong together"),
        (key_of_another_kind, "the CA's key is not an ECDSA P-256 key"),
        (lose_key, r"incomplete, root-key\.pem is missing; bring it back, or remove root\.pem"),
        (lose_root, r"incomplete, root\.pem is missing; bring it back, or remove root-key\.pem"),
        (show_key, r"the CA's key can be read by others \(mode 0640\); chmod 600 "),
        (open_folder, r"others may change the CA folder \(mode 0777\); chmod 700 "),
        (file_for_folder, r"the CA folder cannot be used \(File exists\)"),
        (pipe_for_key, r"the CA folder cannot be used \(not a regular file"),
    ],
)
def test_a_folder_that_is_not_as_it_must_be_is_named_and_left_alone(
    folder: Path, spoil: object, message: str
) -> None:
    assert callable(spoil)
    spoil(folder)
    before = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    with pytest.raises(CaFolderError, match=message):
        opened(folder)
    assert before == (sorted(path.name for path in folder.iterdir()) if folder.is_dir() else [])


def test_a_root_for_another_trust_domain_is_named(folder: Path) -> None:
    message = r"for another trust domain than other\.mesh \(spiffe://cluster\.local\)"
    with pytest.raises(CaFolderError, match=message):
        opened(folder, domain="other.mesh")


@pytest.mark.parametrize("wall", [NOON - 2 * DAY, NOON + 3651 * DAY])
def test_a_root_that_does_not_count_now_is_named(folder: Path, wall: float) -> None:
    with pytest.raises(
        CaFolderError, match="the CA's certificate counts from 2026-01-01 to 2035-12-30, not now"
    ):
        opened(folder, wall=wall)


def test_a_folder_that_stays_locked_is_named_after_five_seconds(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr("ztunnel.identity.ca.folder.LOCK_DEADLINE", 0.05)
    with (folder / ".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        # Nobody unlocks it before that: without a deadline this would not end.
        with pytest.raises(CaFolderError, match="another process keeps the CA folder locked"):
            opened(folder)
    opened(folder)


def test_the_key_is_in_no_repr(folder: Path) -> None:
    from ztunnel.identity.ca.folder import load_or_make

    files = load_or_make(folder, lambda: pytest.fail("the folder is not new"))
    assert "PRIVATE" in files.key.decode()
    assert "PRIVATE" not in repr(files)
