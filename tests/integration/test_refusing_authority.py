"""Connections of a workload for which nobody signs: told why at once, and served as soon as somebody does.

spec/control.md §7.4 on real nodes: the answer "no" is kept and given to whoever needs the certificate, while it is asked for
again behind their backs; until the first answer they wait.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
from grpclib import GRPCError, Status

from tests.support.apps import Application, Heard, direct, hears_at_once
from tests.support.istio_ca import IstioCa
from tests.support.istio_nodes import IstioNode
from tests.support.nodes import Mesh, as_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.nodes import Address
    from ztunnel.testing.istio_ca import Asked

RESET = Heard(b"", "ECONNRESET")
# What a connection waits for a certificate that nobody has said no to (`deadlines.credential`).
PATIENCE = 60.0

pytestmark = pytest.mark.timeout(90)


class Refusal:
    """Signs for everybody but one, as istiod does for a pod that it has not heard of."""

    def __init__(self, ca: IstioCa, whom: str) -> None:
        self._ca = ca
        self.whom: str | None = whom

    def __call__(self, asked: Asked) -> tuple[str, ...]:
        ((_, identity),) = asked.request.metadata
        if self.whom is not None and identity.endswith(self.whom):
            raise GRPCError(Status.UNAUTHENTICATED, "request impersonation authentication failure")
        return self._ca.server.signed(asked)


@contextmanager
def refused(folder: Path) -> Iterator[tuple[Refusal, IstioNode, Address, Application]]:
    """An application behind one node, and another whose workload gets no certificate."""
    with (
        IstioCa(folder) as ca,
        Mesh(folder, network="127.41") as mesh,
        ExitStack() as stack,
    ):
        refusal = Refusal(ca, "/sa/client")
        ca.server.answer = refusal
        application = stack.enter_context(Application.listen(mesh.workload("server")))
        mesh.workload("client")
        target = as_text(application.address)
        stack.enter_context(IstioNode(mesh, "server", istio_ca=ca))
        deadlines = {"credential": f"{PATIENCE:g}s"}
        client = IstioNode(mesh, "client", istio_ca=ca, forwards=[target], deadlines=deadlines)
        stack.enter_context(client)
        yield refusal, client, client.forwards[target], application


def test_who_needs_what_is_refused_hears_why_at_once_and_is_served_once_it_is_there(
    tmp_path: Path,
) -> None:
    with refused(tmp_path) as (refusal, client, way, application):
        client.log.wait_for("no new certificate; asking again")
        for _ in range(3):
            after = len(client.access)
            assert hears_at_once(way) == RESET  # which waits for half of that, at most
            line = client.access.wait_for(after=after, error=re.compile("^identity error: "))
            assert "UNAUTHENTICATED: request impersonation authentication failure" in line["error"]
            assert "one that has just been scheduled is known in a moment" in line["error"]
        closed = client.metrics()
        assert closed.total("ztunnel_refusals_total", reason="no_certificate_of_ours") == 3
        refusal.whom = None
        client.log.wait_for("certificate installed", within=20)
        ends = application.pair(lambda: direct(way))
        ends[0].says(b"there?")
        assert ends[1].takes(6) == b"there?"
