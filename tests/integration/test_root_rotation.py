"""A root is added, signs, and is dropped, while every connection makes a handshake (spec/reliability.md F27).

Nodes renew when they like, so that for a while one shows a certificate of the old root and another one of the new: both
must believe both. The control channel's file of roots goes the same way, swapped as Kubernetes does it.
"""

from __future__ import annotations

import base64
import json
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from tests.support.fresh_tunnels import Echo, Load
from tests.support.http import ask
from tests.support.istio_ca import IstioCa
from tests.support.istio_nodes import IstioNode
from tests.support.nodes import Mesh, as_text, eventually
from ztunnel.testing.istio_ca import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.nodes import Node
    from ztunnel.testing.istio_ca import Asked

# Certificates that are renewed every two seconds or so.
LIFETIME = 4.0
# Renewals of both nodes, on a machine that is shared.
RENEWED = 20.0


@dataclass
class Signing:
    """Who signs now, and whom everybody is told to trust."""

    signer: Authority
    bundle: list[Authority]

    def __call__(self, asked: Asked) -> tuple[str, ...]:
        leaf = self.signer.signed(asked.request.csr, LIFETIME)
        return leaf, "".join(root.pem for root in self.bundle)


@dataclass(frozen=True)
class World:
    ca: IstioCa
    nodes: tuple[Node, Node]
    load: Load


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """Two nodes of one authority, the one's connections leading to the other."""
    with (
        IstioCa(folder) as ca,
        Mesh(folder, network="127.37") as mesh,
        ExitStack() as stack,
    ):
        ca.server.lifetime = LIFETIME
        echo = stack.enter_context(Echo(mesh.workload("server")))
        mesh.workload("client")
        target = as_text(echo.address)

        def node(name: str, *forwards: str) -> Node:
            made = IstioNode(
                mesh,
                name,
                istio_ca=ca,
                lifetime=LIFETIME,
                admin=True,
                forwards=forwards,
                pool={"idle": "1s"},
            )
            return stack.enter_context(made)

        server, client = node("server"), node("client", target)
        load = stack.enter_context(Load([client.forwards[target]]))
        yield World(ca, (server, client), load)


def shown(node: Node) -> tuple[x509.Name, set[int]]:
    """Who has signed the certificate in use, and the numbers of the roots beside it."""
    (found,) = json.loads(ask(node.bound["admin"], "GET", "/config_dump").body)["certificates"]
    leaf, *_ = (_certificate(one["pem"]) for one in found["certChain"])
    roots = {_certificate(one["pem"]).serial_number for one in found["rootCerts"]}
    return leaf.issuer, roots


def _certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(base64.b64decode(pem))


def until_all_show(nodes: tuple[Node, Node], signer: Authority, bundle: list[Authority]) -> None:
    """Waits until every node has a certificate of this signer beside these roots."""
    parsed = x509.load_pem_x509_certificate(signer.pem.encode())
    roots = {x509.load_pem_x509_certificate(r.pem.encode()).serial_number for r in bundle}
    wanted = (parsed.subject, roots)
    eventually(lambda: all(shown(node) == wanted for node in nodes), "renewal", within=RENEWED)


@pytest.mark.timeout(120)
def test_a_root_is_added_signs_and_is_dropped_without_a_failed_connection(tmp_path: Path) -> None:
    with world(tmp_path) as w:
        old, new = w.ca.server.authority, Authority()
        signing = Signing(old, [old])
        w.ca.server.answer = signing
        for signer, bundle in ((old, [old, new]), (new, [new, old]), (new, [new])):
            signing.bundle = bundle
            signing.signer = signer
            until_all_show(w.nodes, signer, bundle)
        before = w.load.connections
        eventually(lambda: w.load.connections > before + 20, "connections go on")
    assert w.load.failures == []
    assert w.load.connections > 100


@pytest.mark.timeout(120)
def test_the_control_channel_follows_its_file_of_roots_while_certificates_are_renewed(
    tmp_path: Path,
) -> None:
    with world(tmp_path) as w:
        old, new = w.ca.server.authority, Authority()
        w.ca.server.answer = Signing(
            old, [old]
        )  # of workloads: another matter than the server's own
        swap(w.ca.roots, old.pem + new.pem)
        asked = len(w.ca.server.asked)
        eventually(lambda: len(w.ca.server.asked) > asked + 1, "asked with both", within=RENEWED)
        w.ca.stops()
        w.ca.server.authority = new
        w.ca.starts()
        asked = len(w.ca.server.asked)
        eventually(lambda: len(w.ca.server.asked) > asked + 1, "asked the new one", within=RENEWED)
        # A file in the making: the last good one stays in use.
        swap(w.ca.roots, "-----BEGIN CERTIF")
        asked = len(w.ca.server.asked)
        eventually(lambda: len(w.ca.server.asked) > asked + 1, "asked all the same", within=RENEWED)
        for node in w.nodes:
            node.log.wait_for("the roots stay as they were")
        swap(w.ca.roots, new.pem)
        asked = len(w.ca.server.asked)
        eventually(lambda: len(w.ca.server.asked) > asked + 1, "asked with the new", within=RENEWED)
    assert w.load.failures == []
    assert w.load.connections > 100


def swap(path: Path, content: str) -> None:
    """As Kubernetes does it: a folder beside, then the link to it, at once."""
    folder = path.parent / f"..{time.monotonic_ns()}"
    folder.mkdir()
    (folder / path.name).write_text(content)
    draft = path.parent / "..data_tmp"
    draft.symlink_to(folder.name)
    draft.replace(path.parent / "..data")
    if not path.is_symlink():
        link = path.with_suffix(".link")
        link.symlink_to(f"..data/{path.name}")
        link.replace(path)
