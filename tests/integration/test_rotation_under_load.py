"""Certificates that change all the time, an authority that fails and lies, and a handshake for each connection of a load.

As long as a node has a certificate that counts, no connection may fail (spec/reliability.md F24, F26). Takes half a minute;
ZTUNNEL_ROTATION_SECONDS=60 ZTUNNEL_CA_DOWN_SECONDS=30 ZTUNNEL_EVERY_LIE=1 is the whole of it: a hundred rotations in a
minute, the authority down for half a minute twice, every bad answer given to every node.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.fresh_tunnels import Echo, Load
from tests.support.istio_ca import IstioCa
from tests.support.istio_nodes import IstioNode
from tests.support.nodes import Mesh, as_text, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.nodes import Node
    from ztunnel.testing.istio_ca import Asked, Authority

    Tell = Callable[[str, object], None]

ROTATING = float(os.environ.get("ZTUNNEL_ROTATION_SECONDS", "5"))
DOWN = float(os.environ.get("ZTUNNEL_CA_DOWN_SECONDS", "2"))
EVERY_LIE = bool(os.environ.get("ZTUNNEL_EVERY_LIE"))
# No certificate is renewed more often than once a second (spec/reliability.md F28), and one of three seconds once in one
# and a half: three nodes make two rotations a second of it, and each has a second and a half to spare.
SHORT = 3.0
RATE = 100 / 60
# Longer than the authority is down, with as much again for the retry that comes after it, and for a slow machine.
LONG = 2.5 * DOWN + 9.0
NODES = 3
INSTALLED = "certificate installed"
FAILED = "no new certificate; asking again"
OTHER = "spiffe://cluster.local/ns/default/sa/somebody-else"

pytestmark = pytest.mark.timeout(120 + 4 * ROTATING + 8 * DOWN)


@dataclass(frozen=True)
class World:
    ca: IstioCa
    nodes: list[Node]
    load: Load

    def rotations(self) -> int:
        """Certificates installed by all nodes so far."""
        return sum(len(node.log.all(INSTALLED)) for node in self.nodes)


@contextmanager
def world(folder: Path, *, lifetime: float = SHORT) -> Iterator[World]:
    """A server and two clients that connect to it all the time; an authority for all three."""
    with (
        IstioCa(folder) as ca,
        Mesh(folder, network="127.38") as mesh,
        ExitStack() as stack,
    ):
        ca.server.lifetime = lifetime
        echo = stack.enter_context(Echo(mesh.workload("server")))
        target = as_text(echo.address)
        for name in ("one", "two"):
            mesh.workload(name)

        def node(name: str, *forwards: str) -> Node:
            made = IstioNode(
                mesh, name, istio_ca=ca, forwards=forwards, pool={"idle": "1s"}, lifetime=lifetime
            )
            return stack.enter_context(made)

        server, *clients = node("server"), node("one", target), node("two", target)
        load = stack.enter_context(Load([client.forwards[target] for client in clients]))
        yield World(ca, [server, *clients], load)
        # Counted first: the load goes on.
        connections = load.connections
        handshakes = server.metrics().total(
            "ztunnel_handshakes_total", side="inbound", result="completed"
        )
        assert handshakes >= connections, "a handshake for each, or this shows nothing"


def tell(record_property: Tell, w: World) -> None:
    """For the report of a run (`--junitxml`)."""
    record_property("rotations", w.rotations())
    record_property("connections", w.load.connections)


def test_a_hundred_rotations_a_minute_fail_no_connection(
    tmp_path: Path, record_property: Tell
) -> None:
    with world(tmp_path) as w:
        wanted = round(RATE * ROTATING)
        before = w.rotations()
        eventually(
            lambda: w.rotations() - before >= wanted,
            f"{wanted} rotations",
            # How fast it is shall not be asked of a machine that is busy with something else.
            within=ROTATING * (1 if EVERY_LIE else 4),
        )
    assert w.load.failures == []
    tell(record_property, w)


def test_an_authority_that_is_down_twice_fails_no_connection(
    tmp_path: Path, record_property: Tell
) -> None:
    with world(tmp_path, lifetime=LONG) as w:
        for _ in range(2):
            failures = [len(node.log.all(FAILED)) for node in w.nodes]
            installed = [len(node.log.all(INSTALLED)) for node in w.nodes]
            w.ca.stops()
            stopped = time.monotonic()
            # However the time falls, somebody asks in vain before the authority is back; most often all of them do. To
            # wait for the last of them could take the first one past its certificate's end.
            eventually(
                lambda failures=failures: any(  # type: ignore[misc]
                    len(node.log.all(FAILED)) > count
                    for node, count in zip(w.nodes, failures, strict=True)
                ),
                "a node has asked in vain",
                within=LONG,
            )
            eventually(lambda stopped=stopped: time.monotonic() > stopped + DOWN, "time", 2 * DOWN)  # type: ignore[misc]
            w.ca.starts()
            eventually(
                lambda installed=installed: all(  # type: ignore[misc]
                    len(node.log.all(INSTALLED)) > count
                    for node, count in zip(w.nodes, installed, strict=True)
                ),
                "every node has a new certificate",
                within=2 * LONG,
            )
        assert not any(node.log.all(re.compile("^certificate expired")) for node in w.nodes)
    assert w.load.failures == []
    tell(record_property, w)


class Liar:
    """Answers badly in every way, and well in between: the ways are dealt out to the nodes, or each gets all of them."""

    def __init__(
        self, honest: Callable[[Asked], tuple[str, ...]], authority: Authority, *, to_all: bool
    ) -> None:
        self._honest = honest
        self._authority = authority
        self._turns: dict[str, int] = {}
        lies: list[Callable[[Asked], tuple[str, ...]]] = [
            lambda asked: ("garbage", "garbage"),
            self._for_somebody_else,
            lambda asked: (),
            lambda asked: honest(asked)[:1],
            self._expired,
            self._in_the_wrong_order,
            lambda asked: (*honest(asked)[:1], authority.pem + " " * (1 << 20)),
            self._on_another_key,
        ]
        # By the order in which the nodes ask.
        self._lies = [lies] * NODES if to_all else [lies[place::NODES] for place in range(NODES)]

    @property
    def is_through(self) -> bool:
        """Every way has been tried on whom it was for."""
        # A good answer behind each bad one.
        return len(self._turns) == NODES and all(
            turns > 2 * len(lies)
            for turns, lies in zip(self._turns.values(), self._lies, strict=True)
        )

    def __call__(self, asked: Asked) -> tuple[str, ...]:
        """One answer."""
        (_, identity), *_ = asked.request.metadata
        turn = self._turns[identity] = self._turns.get(identity, 0) + 1
        lies = self._lies[list(self._turns).index(identity)]
        if turn % 2 == 1 and turn // 2 < len(lies):
            return lies[turn // 2](asked)
        return self._honest(asked)

    def _for_somebody_else(self, asked: Asked) -> tuple[str, ...]:
        key: Any = x509.load_pem_x509_csr(asked.request.csr.encode()).public_key()
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(OTHER)]
        return self._authority.sign(key, names), self._authority.pem

    def _on_another_key(self, asked: Asked) -> tuple[str, ...]:
        (_, identity), *_ = asked.request.metadata
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity)]
        return self._authority.sign(key, names), self._authority.pem

    def _expired(self, asked: Asked) -> tuple[str, ...]:
        return self._authority.signed(asked.request.csr, -30.0), self._authority.pem

    def _in_the_wrong_order(self, asked: Asked) -> tuple[str, ...]:
        between = self._authority.intermediate()
        return between.pem, between.signed(asked.request.csr), self._authority.pem


ERRORS = (
    "no certificate in the bundle",
    f"did not find expected SAN: .* got {OTHER}",
    "chain returned from CA is empty",
    "has one element and so no root",
    "the certificate ended .* s before it came",
    "did not find expected SAN: .* got none",
    "PEM text is too large",
    "issued for another key",
)


def test_an_authority_that_answers_badly_fails_no_connection_and_each_time_it_is_said_how(
    tmp_path: Path,
) -> None:
    # Renewed after three seconds, of which three are left for a second try.
    with world(tmp_path, lifetime=6.0) as w:
        liar = Liar(w.ca.server.signed, w.ca.server.authority, to_all=EVERY_LIE)
        w.ca.server.answer = liar
        eventually(lambda: liar.is_through, "every bad answer was given", within=90)
        for error in ERRORS:
            said = [node.log.all(FAILED, error=re.compile(error)) for node in w.nodes]
            assert all(said) if EVERY_LIE else any(said), error
        assert not any(node.log.all(re.compile("^certificate expired")) for node in w.nodes)
    assert w.load.failures == []
