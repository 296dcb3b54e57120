"""Upstream's namespace tests by their names: policy, wrong addresses, wrong domains, malicious calls
(spec/dataplane.md §17, §20.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.netns.namespaces import Network
from tests.netns.proxies import Town
from tests.netns.serving import ECHO_PORT, HELLO, asks, echo, serving
from tests.support.apps import DEADLINE, End, Heard, direct
from tests.support.nodes import HBONE_PORT, as_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.netns.namespaces import Host
    from tests.support.nodes import Address

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

REFUSED = "connection closed due to policy rejection: allow policies exist, but none allowed"
ACCOUNTS = "spiffe://cluster.local/ns/default/sa"


class Guarded(Town):
    """A client, servers that anybody and that one principal may reach, and a client of another trust domain."""

    def __init__(self, network: Network, folder: Path) -> None:
        super().__init__(network, folder)
        self.client, self.server = self.pod("client"), self.pod("server")
        self.foreign = self.pod("foreign", trustDomain="clusterset.local")
        self.choosy = self.pod("choosy", namespace="guarded")
        self.outsider = self.machine("outsider")
        self.mesh.policies.append(
            {
                "name": "one",
                "namespace": "guarded",
                "scope": "Namespace",
                "action": "Allow",
                "dryRun": False,
                "rules": [[[{"principals": [{"Exact": "cluster.local/ns/default/sa/someone"}]}]]],
            }
        )


@pytest.fixture(scope="module")
def guarded(machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Everything runs, and the servers echo."""
    with (
        Network() as network,
        Guarded(network, tmp_path_factory.mktemp("guarded")) as guarded,
        guarded.running(),
        serving(guarded.server.host, echo(guarded.server.host)),
        serving(guarded.choosy.host, echo(guarded.choosy.host)),
    ):
        yield guarded


@pytest.mark.parametrize(("account", "status"), [("client", 401), ("someone", 200)])
def test_policy(guarded: Guarded, account: str, status: int) -> None:
    to = (guarded.choosy.address, HBONE_PORT)
    target = f"{guarded.choosy.address}:{ECHO_PORT}"
    assert asks(guarded.outsider, to, guarded.context(account), target) == status
    line = guarded.choosy.node.access.wait_for(
        "connection complete", src_identity=f"{ACCOUNTS}/{account}"
    )
    if status == 401:
        assert line["error"] == REFUSED


def test_hbone_ip_mismatch(guarded: Guarded) -> None:
    server, other = guarded.server.address, guarded.client.address
    after = len(guarded.server.node.access)
    context = guarded.context("client")
    status = asks(guarded.outsider, (server, HBONE_PORT), context, f"{other}:{ECHO_PORT}")
    assert status == 400
    line = guarded.server.node.access.wait_for("connection failed", after=after)
    assert line["error"] == f"ip mismatch: {server} != {other}"
    assert line["dst.addr"] == f"{server}:{HBONE_PORT}"


def test_trust_domain_mismatch_rejected(guarded: Guarded) -> None:
    after = len(guarded.server.node.access)
    to = (guarded.server.address, ECHO_PORT)
    # The server's proxy does not believe the foreign client, whose application has said something by then.
    assert guarded.foreign.tries(to, HELLO) == Heard(b"", "ECONNRESET")
    line = guarded.foreign.node.access.wait_for("connection complete", dst_hbone_addr=as_text(to))
    assert line["src.identity"] == "spiffe://clusterset.local/ns/default/sa/foreign"
    refused = guarded.server.node.access.wait_for("connection failed", after=after)
    assert refused["direction"] == "inbound"
    assert "clusterset.local" in refused["error"]


ALERT = b"\x15\x03"
PORTS = (15001, 15006, 15008, 15080, 15000, 15020, 15021)
# As upstream writes them: C, connecting fails; R, it connects and the request dies; H, an HTTP server says 400. A
# dedicated proxy is in the pod, so a pod's own ports for operators are there too, and SOCKS5 is not asked for.
MALICIOUS = {
    "captured, another pod": "RRRRRHH",
    "captured, own address": "RRRCCHH",
    "captured, 127.0.0.1": "RRRCHHH",
    "uncaptured, a pod": "RRRRRHH",
}


@pytest.mark.parametrize(
    ("who", "port", "result"),
    [
        (who, port, result)
        for who, results in MALICIOUS.items()
        for port, result in zip(PORTS, results, strict=True)
    ],
)
def test_malicious_calls(guarded: Guarded, who: str, port: int, result: str) -> None:
    """Upstream: malicious_calls_inpod, for proxies in their pods."""
    caller, _, where = who.partition(", ")
    host = guarded.client.host if caller == "captured" else guarded.outsider
    addresses = {"own address": host.address, "127.0.0.1": "127.0.0.1"}
    assert probed(host, (addresses.get(where, guarded.server.address), port)) == result


def probed(host: Host, to: Address) -> str:
    """What comes of a connection that says nonsense, in upstream's letters."""
    try:
        connection = host.call(direct, to)
    except ConnectionRefusedError:
        return "C"
    except ConnectionResetError:
        return "R"
    with connection:
        connection.settimeout(DEADLINE)
        try:
            connection.sendall(b"this is no request\r\n\r\n")
        except OSError:
            return "R"
        heard = End(connection).hears()
    if heard.data.startswith(b"HTTP/1.1 400"):
        return "H"
    # A TLS server may say what it did not like.
    dead = heard.end in {"FIN", "ECONNRESET"} and (not heard.data or heard.data[:2] == ALERT)
    return "R" if dead else repr(heard)
