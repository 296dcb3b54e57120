"""Everyone who is refused, and what each side is told: the log's sentence, the metric, the status, the alert.

A real node between scripted peers (tests/support/lab.py). Texts, statuses and their order are spec/dataplane.md
§3.2, §9.3 and §9.4; what an application sees is a RST, never a FIN (§20.2 item 20). After each refusal a good
peer is served. Peers that do not even try to be peers are in test_hostile_peers.py.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import SocksReply, through_socks5
from tests.support.certs import CLIENT_ONLY, HOUR, SERVER_ONLY, Authority, Leaf, client_context
from tests.support.hbone_peer import Ended, Wire, answering, connect
from tests.support.lab import CLIENT, PEER, PORT, Lab, dial_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.support.hbone_peer import Field

pytestmark = pytest.mark.asyncio

NETWORK = "127.2"
NOT_BELIEVED = "identity verification error: "


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(
        tmp_path_factory.mktemp("refusals"), network=NETWORK, deadlines={"connect": "1s"}
    ) as lab:
        yield lab


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A certificate that must not be believed, and what the node says about it."""

    leaf: Callable[[Authority, str], Leaf]
    reason: str
    said: str
    """Behind `identity verification error: `; a pattern, `{name}` is the name that it should have had."""
    alert: str = "SSLV3_ALERT_CERTIFICATE_UNKNOWN"
    as_server: dict[str, str] = field(default_factory=dict)
    """What differs when the faulty one is the server."""


def elsewhere(name: str) -> str:
    return name.replace("cluster.local", "other.example")


EXPIRED = HOUR * -0.5
FAULTS = {
    "another trust domain": Fault(
        leaf=lambda ca, name: ca.leaf(elsewhere(name)),
        reason="wrong_trust_domain",
        said=r"peer did not present the expected trustdomain \(cluster\.local\), got {other}$",
        as_server={
            "reason": "wrong_san",
            "said": r"peer did not present the expected SAN \({name}\), got {other}$",
        },
    ),
    "no name": Fault(
        leaf=lambda ca, _name: ca.leaf(),
        reason="no_spiffe_name",
        said=r"peer's certificate has no SPIFFE name$",
    ),
    "a name for browsers": Fault(
        leaf=lambda ca, name: ca.leaf(dns=[name.removeprefix("spiffe://").partition("/")[0]]),
        reason="no_spiffe_name",
        said=r"peer's certificate has no SPIFFE name$",
    ),
    "a URI of another kind": Fault(
        leaf=lambda ca, _name: ca.leaf("https://cluster.local/ns/default/sa/client"),
        reason="no_spiffe_name",
        said=r"peer's certificate has no SPIFFE name, got https://cluster\.local/",
    ),
    "two names, the second one right": Fault(
        leaf=lambda ca, name: ca.leaf("spiffe://cluster.local/ns/x/sa/y", name),
        reason="multiple_names",
        said=r"peer's certificate has several URI names, SPIFFE allows one, got .*,{name}$",
    ),
    "expired": Fault(
        leaf=lambda ca, name: ca.leaf(name, ends=EXPIRED),
        reason="expired",
        said=r"peer's certificate expired at \S+; now it is \S+$",
        alert="SSLV3_ALERT_CERTIFICATE_EXPIRED",
    ),
    "not yet valid": Fault(
        leaf=lambda ca, name: ca.leaf(name, starts=dt.timedelta(minutes=30)),
        reason="not_yet_valid",
        said=r"peer's certificate is not valid before \S+; now it is \S+, are the clocks right\?$",
        alert="SSLV3_ALERT_CERTIFICATE_EXPIRED",
    ),
    "an unknown root": Fault(
        leaf=lambda _ca, name: Authority.new().leaf(name),
        reason="unknown_root",
        said=r"peer's certificate is not signed by a root we hold; ",
        alert="TLSV1_ALERT_UNKNOWN_CA",
    ),
    "a root that only has the right name": Fault(
        leaf=lambda ca, name: Authority.lookalike(ca).leaf(name),
        reason="unknown_root",
        said=r"peer's certificate is not signed by a root we hold; ",
        alert="TLSV1_ALERT_UNKNOWN_CA",
    ),
    "the other side's purpose": Fault(
        leaf=lambda ca, name: ca.leaf(name, usages=SERVER_ONLY if name == CLIENT else CLIENT_ONLY),
        reason="wrong_purpose",
        said=r"peer's certificate does not allow this side of a connection",
        alert="SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_client_that_is_not_believed_is_refused_with_its_reason(
    lab: Lab, fault: Fault
) -> None:
    before, lines = await lab.refused("inbound", fault.reason), len(lab.node.access)
    async with lab.application() as guests:
        alert = await alert_for(lab, fault.leaf(lab.authority, CLIENT))
        said = fault.said.format(name=re.escape(CLIENT), other=re.escape(elsewhere(CLIENT)))
        line = await denied_line(lab, lines, NOT_BELIEVED + said)
        assert guests == []
    assert alert == fault.alert
    assert line["direction"] == "inbound"
    assert line["dst.addr"] == f"{lab.address}:15008"
    assert await lab.refused("inbound", fault.reason) == before + 1
    await lab.assert_good_tunnels_pass()


async def test_a_client_without_a_certificate_is_refused_with_its_reason(lab: Lab) -> None:
    before, lines = await lab.refused("inbound", "no_certificate"), len(lab.node.access)
    alert = await alert_for(lab, None)
    await denied_line(lab, lines, NOT_BELIEVED + "peer sent no certificate$")
    assert alert == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert await lab.refused("inbound", "no_certificate") == before + 1
    await lab.assert_good_tunnels_pass()


@pytest.mark.parametrize("socks5", [False, True], ids=["a local port", "SOCKS5"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_server_that_is_not_believed_is_not_spoken_to(
    lab: Lab, fault: Fault, socks5: bool
) -> None:
    reason = fault.as_server.get("reason", fault.reason)
    said = fault.as_server.get("said", fault.said)
    said = said.format(name=re.escape(PEER), other=re.escape(elsewhere(PEER)))
    spoken: list[Wire] = []
    await refused_outbound(
        lab,
        leaf=fault.leaf(lab.authority, PEER),
        script=overheard(spoken),
        socks5=socks5,
        told="reply 1, ECONNRESET",
        reason=reason,
        said=NOT_BELIEVED + said.removesuffix("$"),
        flag="CONNECT",
    )
    assert spoken == []
    await lab.assert_good_tunnels_pass()


@pytest.mark.parametrize("socks5", [False, True], ids=["a local port", "SOCKS5"])
async def test_a_server_with_another_workloads_name_is_not_spoken_to(
    lab: Lab, socks5: bool
) -> None:
    await refused_outbound(
        lab,
        leaf=lab.authority.leaf(CLIENT),
        script=None,
        socks5=socks5,
        told="reply 1, ECONNRESET",
        reason="wrong_san",
        said=f"{NOT_BELIEVED}peer did not present the expected SAN "
        rf"\({re.escape(PEER)}\), got {re.escape(CLIENT)}: ",
        flag="CONNECT",
    )
    await lab.assert_good_tunnels_pass()


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """A request that must be refused; `{web}` and `{host}` stand for the node's address and service."""

    request: Sequence[Field]
    status: int
    reason: str
    said: str


GET: list[Field] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "{web}:8080"),
]
REQUESTS = {
    "a method of the web": Wrong(
        request=GET, status=400, reason="method", said="expected method CONNECT, got GET"
    ),
    "an authority without a port": Wrong(
        request=connect("{web}"),
        status=400,
        reason="authority",
        said="no valid authority pseudo header: {web}",
    ),
    "an authority with port 0": Wrong(
        request=connect("{host}:0"),
        status=400,
        reason="authority",
        said="no valid authority pseudo header: {host}:0",
    ),
    "an authority with a user": Wrong(
        request=connect("root@{web}:8080"),
        status=400,
        reason="authority",
        said="no valid authority pseudo header: root@{web}:8080",
    ),
    "another pod's address": Wrong(
        request=connect("127.2.255.1:8080"),
        status=400,
        reason="destination",
        said="ip mismatch: {web} != 127.2.255.1",
    ),
    "another pod's address, with a port of ours": Wrong(
        request=connect("127.2.255.1:15008"),
        status=400,
        reason="destination",
        said="ip mismatch: {web} != 127.2.255.1",
    ),
    "a host that nobody knows": Wrong(
        request=connect("nobody.example:80"),
        status=503,
        reason="destination",
        said="no service or workload for hostname: nobody.example",
    ),
    "an address that only looks like one": Wrong(
        request=connect("010.0.0.1:80"),
        status=503,
        reason="destination",
        said="no service or workload for hostname: 010.0.0.1",
    ),
    "a port that the service does not have": Wrong(
        request=connect("{host}:81"),
        status=503,
        reason="destination",
        said="requested service {host}:81 found, but cannot resolve port",
    ),
    **{
        f"the node's own port {port}": Wrong(
            request=connect(f"{{web}}:{port}"),
            status=503,
            reason="destination",
            said="attempted recursive call to ourselves",
        )
        for port in (15001, 15006, 15008)
    },
}


@pytest.mark.parametrize("wrong", REQUESTS.values(), ids=REQUESTS)
async def test_a_request_that_goes_nowhere_is_answered_with_its_status(
    lab: Lab, wrong: Wrong
) -> None:
    await refused_inbound(lab, wrong)
    await lab.assert_good_tunnels_pass()


@pytest.mark.parametrize("listener", ["metrics", "readiness", "admin", "socks5", "forwards[0]"])
async def test_no_tunnel_leads_to_a_listener_of_the_node_itself(lab: Lab, listener: str) -> None:
    port = lab.node.bound[listener][1]
    await refused_inbound(
        lab,
        Wrong(
            request=connect(f"{{web}}:{port}"),
            status=503,
            reason="destination",
            said="attempted recursive call to ourselves",
        ),
    )


async def test_an_application_that_does_not_listen_is_a_503(lab: Lab) -> None:
    lines, failed = len(lab.node.access), await failures(lab, "CONNECT")
    async with await Wire.meet(lab.inbound, lab.as_client()) as wire:
        assert await wire.request(*connect(f"{lab.address}:1")) == 503
    line = await lab.logged(lines, direction="inbound", error=re.compile(r"^connection failed: "))
    assert line["message"] == "connection complete"
    assert line["src.identity"] == CLIENT
    assert "refused" in line["error"]
    assert await failures(lab, "CONNECT") == failed + 1
    await lab.assert_good_tunnels_pass()


DENY = {
    "name": "no-strangers",
    "namespace": "default",
    "scope": "Namespace",
    "action": "Deny",
    "rules": [[[{"principals": [{"Exact": CLIENT.removeprefix("spiffe://")}]}]]],
}
ALLOW = {
    "name": "friends",
    "namespace": "default",
    "scope": "Namespace",
    "action": "Allow",
    "rules": [[[{"principals": [{"Exact": "cluster.local/ns/default/sa/friend"}]}]]],
}
POLICIES = {
    "denied": (DENY, "explicitly denied by: default/no-strangers"),
    "not allowed": (ALLOW, "allow policies exist, but none allowed"),
}


@pytest.mark.parametrize(("policy", "why"), POLICIES.values(), ids=POLICIES)
async def test_a_request_against_policy_is_a_401_that_counts_as_denied(
    lab: Lab, policy: dict[str, Any], why: str
) -> None:
    await with_policies(lab, [policy])
    try:
        lines, failed = len(lab.node.access), await failures(lab, "DENY")
        before = await lab.refused("inbound", "policy")
        async with (
            lab.application() as guests,
            await Wire.meet(lab.inbound, lab.as_client()) as wire,
        ):
            assert await wire.request(*connect(lab.authority_of_web)) == 401
            assert guests == []
        line = await lab.logged(lines, message="connection complete", direction="inbound")
        assert line["error"] == f"connection closed due to policy rejection: {why}"
        assert line["src.identity"] == CLIENT
        assert await failures(lab, "DENY") == failed + 1
        assert await lab.refused("inbound", "policy") == before + 1
    finally:
        await with_policies(lab, [])
    await lab.assert_good_tunnels_pass()


STATUSES = {
    400: ("reply 1, ECONNRESET", "Bad Request"),
    401: ("reply 2, ECONNRESET", "Unauthorized"),
    503: ("reply 5, ECONNRESET", "Service Unavailable"),
}


@pytest.mark.parametrize("socks5", [False, True], ids=["a local port", "SOCKS5"])
@pytest.mark.parametrize(("status", "expected"), STATUSES.items(), ids=STATUSES)
async def test_a_refusal_by_the_peer_reaches_the_application_as_a_reset(
    lab: Lab, status: int, expected: tuple[str, str], socks5: bool
) -> None:
    told, phrase = expected
    await refused_outbound(
        lab,
        leaf=None,
        script=answering(status),
        socks5=socks5,
        told=told,
        reason=f"refused_{status}",
        said=f"^http status: {status} {phrase}$",
        flag="CONNECT",
    )
    await lab.assert_good_tunnels_pass()


async def test_a_name_that_nobody_knows_is_host_unreachable_and_a_reset(lab: Lab) -> None:
    lines, before = len(lab.node.access), await lab.refused("outbound", "no_route")

    def ask() -> int:
        with pytest.raises(SocksReply) as reply:
            through_socks5(lab.node.socks5, "nobody.example", 80)
        with reply.value.connection as connection, pytest.raises(ConnectionResetError):
            connection.recv(1)
        return reply.value.code

    assert await asyncio.to_thread(ask) == 4
    line = await lab.logged(lines, message="connection failed", direction="outbound")
    assert "nobody.example" in line["error"]
    assert await lab.refused("outbound", "no_route") == before + 1
    await lab.assert_good_tunnels_pass()


async def alert_for(lab: Lab, leaf: Leaf | None) -> str:
    """Which alert a client gets; in TLS 1.3 it learns of it behind its own handshake."""
    context = lab.as_client(leaf) if leaf else client_context()
    try:
        async with await Wire.meet(lab.inbound, context) as wire:
            return (await wire.end()).partition(" after ")[0]
    except Ended as end:
        return str(end).partition(" after ")[0]


async def denied_line(lab: Lab, after: int, said: str) -> dict[str, Any]:
    pattern = re.compile(f"^(tls handshake error: )?{said}")
    line = await lab.logged(after, message="connection failed", error=pattern)
    assert line["level"] == "warn"
    assert not {"src.identity", "dst.workload"} & line.keys()
    return line


async def refused_inbound(lab: Lab, wrong: Wrong) -> None:
    def filled(text: str | bytes) -> bytes:
        whole = text.decode() if isinstance(text, bytes) else text
        return whole.format(web=lab.address, host=lab.hostname).encode()

    before, lines = await lab.refused("inbound", wrong.reason), len(lab.node.access)
    async with (
        lab.application() as guests,
        await Wire.meet(lab.inbound, lab.as_client()) as wire,
    ):
        request = [(filled(name), filled(value)) for name, value in wrong.request]
        assert await wire.request(*request) == wrong.status
        said = wrong.said.format(web=lab.address, host=lab.hostname)
        line = await lab.logged(lines, message="connection failed", direction="inbound")
        assert line["error"].startswith(said)
        assert guests == []
        # One refused request does not end the tunnel for the others in it.
        await wire.connect(lab.authority_of_web)
    assert await lab.refused("inbound", wrong.reason) == before + 1


async def refused_outbound(
    lab: Lab,
    *,
    leaf: Leaf | None,
    script: Any,
    socks5: bool,
    told: str,
    reason: str,
    said: str,
    flag: str,
) -> None:
    before, lines = await lab.refused("outbound", reason), len(lab.node.access)
    failed = await failures(lab, flag)
    async with lab.playing_peer(script, leaf=leaf):
        heard, name = await asyncio.to_thread(dial_out, lab, socks5=socks5)
        assert heard == (told if socks5 else "ECONNRESET")
        said_so = re.compile(said)
        line = await lab.logged(lines, src_addr=name, direction="outbound", error=said_so)
    assert line["message"] == "connection complete"
    assert line["dst.addr"] == f"{lab.peer}:15008"
    assert line["dst.hbone_addr"] == f"{lab.peer}:{PORT}"
    assert await lab.refused("outbound", reason) == before + 1
    assert await failures(lab, flag) == failed + 1


def overheard(spoken: list[Wire]) -> Any:
    """A script that says nothing and remembers who said anything to it."""

    async def script(wire: Wire) -> None:
        if await wire.reader.read(1):
            spoken.append(wire)

    return script


async def failures(lab: Lab, flag: str) -> float:
    return await lab.counted("istio_tcp_connections_failed_total", response_flags=flag)


async def with_policies(lab: Lab, policies: list[dict[str, Any]]) -> None:
    lines = len(lab.node.log)
    lab.mesh.policies = policies
    lab.mesh.write()
    await asyncio.to_thread(lab.node.log.wait_for, "mesh applied", after=lines)
