"""Certificates that are revoked while they are valid, on real nodes: who is refused, who is cut, and who is left alone.

spec/reliability.md F34, and upstream's four scenarios by their names (spec/dataplane.md §22). The nodes read the file by
themselves; nobody tells them to.
"""

from __future__ import annotations

import base64
import json
import re
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import Application, End, Heard, direct, hears_at_once
from tests.support.certs import Authority, serial_of
from tests.support.http import ask
from tests.support.nodes import Mesh, Node, as_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CUT = "connection closed: peer certificate revoked by CRL"
# From the file to the connection: what is polled, settled, read and cut (spec/reliability.md F34): a second and a half on
# two idle cores; without a cut the connection would last for as long as the applications like.
EXPOSURE = 15.0
RESET = Heard(b"", "ECONNRESET")


@dataclass(frozen=True)
class Trio:
    """An application behind `server`, and two nodes that lead there: `client` and `other`."""

    server: Node
    client: Node
    other: Node
    application: Application
    judge: Node
    """The node under test, which reads the list."""
    crl: Path

    def connects(self, node: Node) -> tuple[End, End]:
        """Both ends of a connection from there that stands."""
        target = node.forwards[as_text(self.application.address)]
        ends = self.application.pair(partial(direct, target))
        goes_on(*ends)
        return ends

    def is_refused(self, node: Node) -> None:
        """A connection from there comes to nothing."""
        # The reset may come before the system has told us that we are connected.
        assert hears_at_once(node.forwards[as_text(self.application.address)]) == RESET

    @property
    def authority(self) -> Authority:
        """Who has signed all of them."""
        return Authority.of_node(self.crl.parent / "ca")

    def revokes(self, *nodes: Node, expired: bool = False) -> float:
        """Lists the certificates that these nodes have now; gives the moment of it."""
        return self.writes(self.authority.crl(*map(serial, nodes), expired=expired))

    def reads(self, *revoked: Node) -> None:
        """Has the node under test read a list of the certificates that these nodes have now."""
        self.revokes(*revoked)
        self.judge.log.wait_for("revoked certificates read", serials=len(revoked))

    def writes(self, content: bytes) -> float:
        """Puts this into the file, at once."""
        new = self.crl.with_suffix(".new")
        new.write_bytes(content)
        moment = time.monotonic()
        new.replace(self.crl)
        return moment


@contextmanager
def nodes(folder: Path, *, judge: str, crl: bytes | None = b"") -> Iterator[Trio]:
    """All three; `judge` is the workload whose node reads the list."""
    path = folder / "ca-crl.pem"
    if crl is not None:
        path.write_bytes(crl)
    with Mesh(folder, network="127.36") as mesh, ExitStack() as stack:
        application = stack.enter_context(Application.listen(mesh.workload("server")))
        mesh.workload("client")
        mesh.workload("other")
        target = as_text(application.address)

        def node(name: str) -> Node:
            forwards = [] if name == "server" else [target]
            more: dict[str, Any] = {"crl": str(path)} if name == judge else {}
            return stack.enter_context(Node(mesh, name, forwards=forwards, admin=True, **more))

        server, client, other = node("server"), node("client"), node("other")
        of_name = {"server": server, "client": client}
        yield Trio(server, client, other, application, of_name[judge], path)


def serial(node: Node) -> int:
    """Of the certificate that a node shows now."""
    dump = json.loads(ask(node.bound["admin"], "GET", "/config_dump").body)
    (certificate,) = dump["certificates"]
    return serial_of(base64.b64decode(certificate["certChain"][0]["pem"]))


def goes_on(client: End, server: End) -> None:
    """Bytes pass both ways."""
    client.says(b"still?")
    assert server.takes(6) == b"still?"
    server.says(b"still.")
    assert client.takes(6) == b"still."


def rejections(node: Node, reporter: str) -> float:
    """How often the node has refused or cut a peer for this."""
    return node.metrics().total("istio_crl_policy_rejections_total", reporter=reporter)


def tells_of_a_cut(node: Node, reporter: str) -> dict[str, Any]:
    """One connection was cut: a line, which is given, and two metrics."""
    line = node.access.wait_for("connection complete", error=CUT)
    closed = partial(node.metrics().total, "istio_tcp_connections_closed_total")
    assert closed(response_flags="CERT_REVOKED") == 1
    assert rejections(node, reporter) == 1
    return line


def is_cut(ends: tuple[End, End], since: float) -> None:
    """Both applications hear a reset, in time."""
    for end in ends:
        assert end.hears() == RESET
    took = time.monotonic() - since
    assert took < EXPOSURE, f"cut {took:.2f} s after the file was there"


def test_crl_inbound_rejects_revoked_cert(tmp_path: Path) -> None:
    with nodes(tmp_path, judge="server") as trio:
        trio.reads(trio.client)
        trio.is_refused(trio.client)
        assert rejections(trio.server, "destination") == 1
        trio.client.access.wait_for(direction="outbound", error=re.compile("certificate_revoked"))
        trio.connects(trio.other)


def test_crl_outbound_rejects_revoked_cert(tmp_path: Path) -> None:
    with nodes(tmp_path, judge="client") as trio:
        trio.reads(trio.server)
        trio.is_refused(trio.client)
        assert rejections(trio.client, "source") == 1
        trio.client.access.wait_for(direction="outbound", error=re.compile("revoked by CRL"))
        trio.connects(trio.other)


def test_crl_inbound_terminates_existing_connection_on_revocation(tmp_path: Path) -> None:
    with nodes(tmp_path, judge="server") as trio:
        revoked, others = trio.connects(trio.client), trio.connects(trio.other)
        is_cut(revoked, trio.revokes(trio.client))
        line = tells_of_a_cut(trio.server, "destination")
        assert line["src.identity"] == "spiffe://cluster.local/ns/default/sa/client"
        goes_on(*others)
        trio.is_refused(trio.client)
        assert trio.server.metrics().total("istio_crl_untracked_connections_total") == 0


def test_crl_outbound_terminates_existing_connection_on_revocation(tmp_path: Path) -> None:
    with nodes(tmp_path, judge="client") as trio:
        revoked, others = trio.connects(trio.client), trio.connects(trio.other)
        is_cut(revoked, trio.revokes(trio.server))
        tells_of_a_cut(trio.client, "source")
        goes_on(*others)
        trio.is_refused(trio.client)


def test_an_application_that_does_not_read_is_cut_all_the_same(tmp_path: Path) -> None:
    with nodes(tmp_path, judge="client") as trio:
        client, server = trio.connects(trio.client)
        server.says_until_it_blocks(most=64 * 1024 * 1024)
        since = trio.revokes(trio.server)
        assert server.says_until_it_breaks() == "ECONNRESET"
        took = time.monotonic() - since
        assert took < EXPOSURE, f"cut {took:.2f} s after the file was there"
        assert client.hears().end == "ECONNRESET"


def test_a_list_that_appears_later_cuts_as_well(tmp_path: Path) -> None:
    with nodes(tmp_path, judge="server", crl=None) as trio:
        trio.server.log.wait_for(
            "no file of revoked certificates; nobody is revoked until it can be read"
        )
        revoked, others = trio.connects(trio.client), trio.connects(trio.other)
        is_cut(revoked, trio.revokes(trio.client))
        goes_on(*others)


def test_a_list_that_has_expired_still_counts(tmp_path: Path) -> None:
    with nodes(tmp_path, judge="server") as trio:
        revoked = trio.connects(trio.client)
        is_cut(revoked, trio.revokes(trio.client, expired=True))
        trio.is_refused(trio.client)


def test_who_is_no_longer_listed_is_let_in_again(tmp_path: Path) -> None:
    with nodes(tmp_path, judge="server") as trio:
        trio.reads(trio.client)
        trio.is_refused(trio.client)
        after = len(trio.server.log)
        trio.writes(b"")
        trio.server.log.wait_for("revoked certificates read", after=after, serials=0)
        trio.connects(trio.client)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    """All three, for tests that leave an empty list behind."""
    with nodes(tmp_path_factory.mktemp("lasting"), judge="server") as trio:
        yield trio


@pytest.mark.parametrize("harm", ["garbage", "half of it", "gone", "too large"])
def test_a_file_that_breaks_keeps_the_list_and_raises_a_metric(lasting: Trio, harm: str) -> None:
    trio, unusable = lasting, "ztunnel_crl_unusable_total"
    others, before = trio.connects(trio.other), trio.server.metrics().total(unusable)
    after = len(trio.server.log)
    trio.revokes(trio.client)
    trio.server.log.wait_for("revoked certificates read", after=after, serials=1)
    good, after = trio.crl.read_bytes(), len(trio.server.log)
    if harm == "gone":
        trio.crl.unlink()
        message = "no file of revoked certificates; the list stays as it was until it can be read"
    else:
        content = {"garbage": b"\xff" * 100, "half of it": good[: len(good) // 2]}
        trio.writes(content.get(harm, b" " * (20 << 20)))
        message = (
            "the file of revoked certificates cannot be used; "
            "the list stays as it was until it can be read"
        )
    trio.server.log.wait_for(message, after=after)
    counted = trio.server.metrics().total(unusable) - before
    assert counted == (0 if harm == "gone" else 1)
    trio.is_refused(trio.client)
    goes_on(*others)
    after = len(trio.server.log)
    trio.writes(b"")
    trio.server.log.wait_for("revoked certificates read", after=after)
    trio.connects(trio.client)


def test_a_file_of_ten_megabytes_works_and_disturbs_nobody(tmp_path: Path) -> None:
    with nodes(tmp_path, judge="server") as trio:
        revoked, others = trio.connects(trio.client), trio.connects(trio.other)
        many = trio.authority.crl(*range(1 << 60, (1 << 60) + 300))
        listed = trio.authority.crl(serial(trio.client))
        content = many * (10_000_000 // len(many) + 1) + listed
        is_cut(revoked, trio.writes(content))
        goes_on(*others)
        trio.is_refused(trio.client)
        trio.connects(trio.other)


def test_a_file_that_is_swapped_as_kubernetes_does_it_is_followed(tmp_path: Path) -> None:
    first, path = tmp_path / "..first", tmp_path / "ca-crl.pem"
    first.mkdir()
    (first / "ca-crl.pem").write_bytes(b"")
    (tmp_path / "..data").symlink_to("..first")
    path.symlink_to("..data/ca-crl.pem")
    with nodes(tmp_path, judge="server", crl=None) as trio:
        revoked = trio.connects(trio.client)
        second, data = tmp_path / "..second", tmp_path / "..data_tmp"
        second.mkdir()
        (second / "ca-crl.pem").write_bytes(trio.authority.crl(serial(trio.client)))
        data.symlink_to("..second")
        since = time.monotonic()
        data.replace(tmp_path / "..data")
        is_cut(revoked, since)
