"""Private keys and tokens: where they are not (spec/reliability.md T31).

Keys are made in Rust and stay there. What is shown here: no private key is in any object of Python's, and none is written
down anywhere in the process, neither as PEM nor as DER. The library keeps the number itself, in a form of its own, for as
long as the key is in use; that is in the process's memory, and others are kept out of it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import resource
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.http import ask
from tests.support.istio_ca import TOKEN, IstioCa
from tests.support.istio_nodes import IstioNode
from tests.support.nodes import ROOT, Mesh, Node, eventually, python_path
from tests.support.secrets import point_of, private_keys_in, writable_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALLED = "certificate installed"

pytestmark = pytest.mark.timeout(120)


@contextmanager
def node(folder: Path, *, lifetime: float = 3600.0) -> Iterator[tuple[IstioCa, IstioNode]]:
    """One that is alone in its mesh."""
    with (
        IstioCa(folder) as ca,
        Mesh(folder, network="127.39") as mesh,
        ExitStack() as stack,
    ):
        ca.server.lifetime = lifetime
        mesh.workload("web")
        made = IstioNode(mesh, "web", istio_ca=ca, admin=True, lifetime=lifetime)
        yield ca, stack.enter_context(made)


def publics(ca: IstioCa) -> list[bytes]:
    """Of every key for which a certificate was asked."""
    keys = [
        x509.load_pem_x509_csr(asked.request.csr.encode()).public_key() for asked in ca.server.asked
    ]
    return [point_of(key) for key in keys if isinstance(key, ec.EllipticCurvePublicKey)]


def test_no_private_key_is_in_pythons_heap_or_written_down_in_the_process(tmp_path: Path) -> None:
    # Several keys, those in use and those that were replaced.
    with node(tmp_path, lifetime=4.0) as (ca, web):
        eventually(lambda: len(web.log.all(INSTALLED)) >= 3, "three certificates")
        heap = web.heap()
        known = publics(ca)
        assert len(known) >= 3
        certificate = json.loads(ask(web.bound["admin"], "GET", "/config_dump").body)
        text = base64.b64decode(certificate["certificates"][0]["certChain"][0]["pem"])
        assert b"IstioCaSettings" in heap, "the whole heap, or this shows nothing"
        assert b"-----BEGIN CERTIFICATE" in text
        assert private_keys_in([heap], known) == []
        assert private_keys_in(writable_memory(web.pid), known) == []


@pytest.mark.parametrize("form", ["PEM", "DER", "SEC 1", "base64", "hexadecimal"])
def test_the_search_finds_a_key_in_every_form(form: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pkcs8 = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    scalar = key.private_numbers().private_value.to_bytes(32, "big")
    written = {
        "PEM": key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        "DER": pkcs8,
        "SEC 1": key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ),
        "base64": base64.b64encode(pkcs8),
        "hexadecimal": scalar.hex().encode(),
    }[form]
    memory = os.urandom(10_000) + b"\n" + written + b"\n" + os.urandom(10_000)
    other = ec.generate_private_key(ec.SECP256R1())
    assert private_keys_in([memory], [point_of(key.public_key())])
    if form != "PEM":
        assert not private_keys_in([memory], [point_of(other.public_key())])


KEEPER = """
import sys
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support.secrets import point_of
key = ec.generate_private_key(ec.SECP256R1())
kept = key.private_bytes(
    serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
print(point_of(key.public_key()).hex(), flush=True)
sys.stdin.read()
"""


def test_the_search_reads_the_memory_of_a_process() -> None:
    # A small one: our own has all that the tests before this one have left in it.
    with subprocess.Popen(
        [sys.executable, "-c", KEEPER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{python_path()}:{ROOT}"},
    ) as keeper:
        assert keeper.stdout is not None
        known = bytes.fromhex(keeper.stdout.readline())
        other = point_of(ec.generate_private_key(ec.SECP256R1()).public_key())
        assert private_keys_in(writable_memory(keeper.pid), [known])
        assert private_keys_in(writable_memory(keeper.pid), [other]) == []


def test_no_token_is_in_anything_that_a_node_says(tmp_path: Path) -> None:
    with node(tmp_path, lifetime=4.0) as (ca, web):
        asked = len(ca.server.asked)
        ca.server.token = "another"
        web.log.wait_for("no new certificate; asking again", error=re.compile("UNAUTHENTICATED"))
        # Both sentences that reading it may end with, each named and none quoted (more in tests/unit/wire/test_token.py).
        for content, error in (
            (f"{TOKEN}\n{TOKEN}\n", "characters that no header may have"),
            ("", "is empty"),
        ):
            after = len(web.log)
            ca.token.write_text(content)
            web.log.wait_for(
                "no new certificate; asking again",
                after=after,
                error=re.compile(error),
                within=30,
            )
        ca.token.write_text(TOKEN)
        ca.server.token = TOKEN
        eventually(lambda: len(ca.server.asked) > asked, "asked again", within=30)
        admin, metrics = web.bound["admin"], web.bound["metrics"]
        asked_for = [
            (admin, "/config_dump"),
            (admin, "/"),
            (admin, "/logging"),
            (metrics, "/metrics"),
        ]
        said = [*web.log.text, *web.access.text]
        said += [ask(address, "GET", target).body.decode() for address, target in asked_for]
        assert not [text for text in said if TOKEN in text]
        assert any("web" in text for text in said)


CHILD = """
import ctypes, json, resource
from ztunnel.dataplane.native import forbid_dumps
forbid_dumps()
PR_GET_DUMPABLE = 3
print(json.dumps([ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE)]))
"""


def test_what_keeps_others_out_leaves_no_core_and_lets_nobody_look() -> None:
    # In a child: it cannot be taken back.
    result = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, check=True, timeout=30
    )
    assert json.loads(result.stdout) == [0, [0, 0]]


class Private(Node):
    """As it runs where nobody asks for anything else."""

    options = ()


def cores_of(pid: int) -> list[str]:
    """The soft and the hard limit of a core that a process leaves."""
    limits = Path(f"/proc/{pid}/limits").read_text()
    (found,) = re.findall(r"^Max core file size +(\S+) +(\S+)", limits, re.MULTILINE)
    return list(found)


def test_a_node_keeps_others_out_unless_it_is_told_not_to(tmp_path: Path) -> None:
    # Who keeps others out does both; a limit is the half that can be seen from here, whoever looks.
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        pytest.skip("nobody here may leave a core: there is nothing to forbid")
    with Mesh(tmp_path, network="127.39") as mesh:
        mesh.workload("web")
        with Private(mesh, "web") as web:
            assert cores_of(web.pid) == ["0", "0"]
        with Node(mesh, "web") as web:
            assert cores_of(web.pid)[1] != "0", "asked to be debuggable"
