"""The rules of a delta ADS stream on istiod's side, row by row (istio.md A3.2–A3.6)."""

from __future__ import annotations

import asyncio

import pytest
from grpclib import GRPCError, Status
from hypothesis import given
from hypothesis import strategies as st

from ztunnel.testing import ManualClock
from ztunnel.testing.istiod import mesh
from ztunnel.testing.istiod.admission import Admission
from ztunnel.testing.istiod.ads import AdsStream, Verdict
from ztunnel.testing.istiod.callers import Caller, Tokens, admit
from ztunnel.testing.istiod.cluster import Cluster
from ztunnel.testing.istiod.resources import ADDRESS, AUTHORIZATION, Resource, address
from ztunnel.wire.discovery import DeltaRequest, WireNode, WireResponse

ZTUNNEL = Caller(namespace="istio-system", account="ztunnel", pod="zt")
NODE = WireNode(
    id="ztunnel~10.0.0.1~zt.istio-system~istio-system.svc.cluster.local",
    metadata=(("NAMESPACE", "istio-system"), ("NODE_NAME", "node-a")),
)
LOCAL = mesh.workload("local", ip="10.0.0.2", node="node-a")
WEB = mesh.workload(
    "web",
    ip=["10.0.0.7", "fd00::7"],
    node="node-b",
    services={"default/shop.default.svc.cluster.local": {80: 8080}},
)
SHOP = mesh.service("shop", vip="10.96.0.1", ports={80: 8080})
DENY = mesh.policy("deny", deny=True, ports=[9])
ON_DEMAND = DeltaRequest(type_url=ADDRESS, node=NODE, subscribe=["*"], unsubscribe=["*"])
WILDCARD = DeltaRequest(type_url=ADDRESS, node=NODE)


def cluster(*resources: Resource) -> Cluster:
    made = Cluster()
    made.change(resources)
    return made


def stream(*resources: Resource) -> AdsStream:
    return AdsStream(cluster(*resources))


def names(response: WireResponse) -> list[str]:
    return [each.name for each in response.resources]


def only(responses: tuple[WireResponse, ...] | list[WireResponse]) -> WireResponse:
    (response,) = responses
    return response


def ask(on: AdsStream, *subscribe: str, unsubscribe: tuple[str, ...] = ()) -> list[WireResponse]:
    request = DeltaRequest(type_url=ADDRESS, subscribe=subscribe, unsubscribe=unsubscribe)
    return list(on.receive(request).responses)


def test_a_first_request_without_names_gets_everything_even_if_that_is_nothing() -> None:
    assert names(only(stream(WEB, SHOP).receive(WILDCARD).responses)) == [WEB.name, SHOP.name]
    empty = only(stream().receive(WILDCARD).responses)
    assert (names(empty), list(empty.removed)) == ([], [])
    assert all(each.aliases == () for each in empty.resources)


def test_an_ack_and_a_nack_get_no_answer_and_nothing_again() -> None:
    on = stream(WEB)
    first = only(on.receive(WILDCARD).responses)
    ack = on.receive(DeltaRequest(type_url=ADDRESS, nonce=first.nonce))
    nack = on.receive(DeltaRequest(type_url=ADDRESS, nonce=first.nonce, error="broken: why"))
    assert (ack.verdict, ack.responses) == (Verdict.ACK, ())
    assert (nack.verdict, nack.responses) == (Verdict.NACK, ())
    assert on.watches[ADDRESS].error == "broken: why"


def test_a_stale_nonce_is_ignored_entirely() -> None:
    on, changed = stream(WEB), cluster()
    first = only(on.receive(WILDCARD).responses)
    only(on.push(changed.change([SHOP])))
    step = on.receive(DeltaRequest(type_url=ADDRESS, nonce=first.nonce, error="too late"))
    assert (step.verdict, step.responses) == (Verdict.STALE, ())
    assert on.watches[ADDRESS].error is None


def test_an_ack_that_changes_the_subscription_is_a_breach_and_is_not_answered() -> None:
    on = stream(LOCAL, WEB)
    first = only(on.receive(ON_DEMAND).responses)
    request = DeltaRequest(type_url=ADDRESS, nonce=first.nonce, subscribe=[WEB.name])
    assert on.receive(request).verdict is Verdict.BREACH


def test_equal_versions_are_left_out_and_unknown_names_are_removed_ones() -> None:
    held = (WEB.name, WEB.version), (SHOP.name, "old"), ("gone//Pod/x/y", "1")
    request = DeltaRequest(type_url=ADDRESS, node=NODE, initial_versions=held)
    response = only(stream(WEB, SHOP).receive(request).responses)
    assert names(response) == [SHOP.name]
    assert list(response.removed) == ["gone//Pod/x/y"]


def test_policies_have_no_version_and_are_always_sent_again() -> None:
    held = (DENY.name, ""), ("default/gone", "")
    request = DeltaRequest(type_url=AUTHORIZATION, node=NODE, initial_versions=held)
    response = only(stream(DENY).receive(request).responses)
    assert [(each.name, each.version) for each in response.resources] == [(DENY.name, "")]
    assert list(response.removed) == ["default/gone"]


def test_one_event_is_pushed_as_addresses_before_authorizations() -> None:
    held = cluster()
    on = AdsStream(held)
    on.receive(DeltaRequest(type_url=AUTHORIZATION, node=NODE))
    on.receive(WILDCARD)
    pushed = on.push(held.change([DENY, WEB], [(AUTHORIZATION, "default/gone")]))
    assert [each.type_url for each in pushed] == [ADDRESS, AUTHORIZATION]
    assert [list(each.removed) for each in pushed] == [[], ["default/gone"]]
    assert [each.version for each in pushed] == ["2026-01-01T00:00:00Z/2"] * 2
    assert all(each.nonce.startswith("2026-01-01T00:00:00Z/2") for each in pushed)
    assert pushed[0].nonce != pushed[1].nonce


def test_an_event_says_only_what_has_changed_and_a_full_push_says_all() -> None:
    held = cluster(WEB, DENY)
    on = AdsStream(held)
    on.receive(WILDCARD)
    assert names(only(on.push(held.change([SHOP])))) == [SHOP.name]
    assert on.push(held.change([mesh.policy("other")])) == []
    assert names(only(on.push_all())) == [WEB.name, SHOP.name]
    assert names(only(on.push_nothing())) == []


def test_on_demand_begins_with_the_nodes_own_workloads_and_their_aliases() -> None:
    response = only(stream(LOCAL, WEB, SHOP).receive(ON_DEMAND).responses)
    assert [(r.name, r.aliases) for r in response.resources] == [(LOCAL.name, ("/10.0.0.2",))]


@pytest.mark.parametrize(
    ("key", "found"),
    [
        (WEB.name, [WEB.name]),
        ("/10.0.0.7", [WEB.name]),
        ("/fd00::7", [WEB.name]),
        # A service brings its workloads.
        ("/10.96.0.1", [SHOP.name, WEB.name]),
        (SHOP.name, [SHOP.name, WEB.name]),
    ],
)
def test_a_demand_is_looked_up_by_every_kind_of_key(key: str, found: list[str]) -> None:
    on = stream(WEB, SHOP)
    on.receive(ON_DEMAND)
    assert names(only(ask(on, key))) == found
    # The trap: a name that was sent, or asked for, before.
    assert ask(on, key) == []
    assert ask(on, *found) == []
    # The way out.
    assert ask(on, unsubscribe=(key, *found)) == []
    assert names(only(ask(on, key))) == found


def test_a_demand_that_misses_is_removed_and_not_told_when_it_appears() -> None:
    held = cluster()
    on = AdsStream(held)
    on.receive(ON_DEMAND)
    assert list(only(ask(on, "/10.0.0.7")).removed) == ["/10.0.0.7"]
    assert on.push(held.change([WEB])) == []
    assert ask(on, "/10.0.0.7") == []
    ask(on, unsubscribe=("/10.0.0.7",))
    assert names(only(ask(on, "/10.0.0.7"))) == [WEB.name]


def test_on_demand_is_told_of_what_it_has_of_its_node_and_of_its_services() -> None:
    held = cluster(SHOP)
    on = AdsStream(held)
    on.receive(ON_DEMAND)
    assert names(only(on.push(held.change([LOCAL])))) == [LOCAL.name]
    ask(on, "/10.96.0.1")
    assert names(only(on.push(held.change([WEB])))) == [WEB.name]
    assert on.push(held.change([mesh.workload("stranger", ip="10.9.9.9", node="node-b")])) == []
    assert list(only(on.push(held.change(remove=[(ADDRESS, WEB.name)]))).removed) == [WEB.name]
    assert on.push(held.change(remove=[(ADDRESS, "never heard of")])) == []


def test_resuming_on_demand_keeps_what_was_asked_for() -> None:
    held = (WEB.name, WEB.version), ("/10.1.2.3", ""), (SHOP.name, "")
    request = DeltaRequest(
        type_url=ADDRESS, node=NODE, subscribe=["*"], unsubscribe=["*"], initial_versions=held
    )
    response = only(stream(WEB, SHOP).receive(request).responses)
    assert names(response) == [SHOP.name]
    assert list(response.removed) == ["/10.1.2.3"]


def test_a_block_of_addresses_has_an_alias_with_its_length() -> None:
    # `NetworkAddress` with a length, of a service: 240.240.0.0/16 and, as one address, 10.0.0.1/32.
    block = b"\x12\x04\xf0\xf0\x00\x00\x18\x10"
    one = b"\x12\x04\x0a\x00\x00\x01\x18\x20"
    body = b"\x22" + bytes([len(block)]) + block + b"\x22" + bytes([len(one)]) + one
    resource = address("ns/host", b"\x12" + bytes([len(body)]) + body)
    assert resource.facts.aliases == ("/240.240.0.0/16", "/10.0.0.1")


@pytest.mark.parametrize(
    ("node", "status"),
    [
        (None, Status.INVALID_ARGUMENT),
        (WireNode(id=""), Status.INVALID_ARGUMENT),
        (WireNode(id="ztunnel~10.0.0.1~zt.istio-system"), Status.INVALID_ARGUMENT),
        (WireNode(id="proxy~10.0.0.1~zt.x~istio-system.svc"), Status.INVALID_ARGUMENT),
        (WireNode(id="ztunnel~~zt.x~istio-system.svc"), Status.INVALID_ARGUMENT),
        (
            WireNode(id=NODE.id, metadata=(("INSTANCE_IPS", ["10.0.0.1"]),)),
            Status.INVALID_ARGUMENT,
        ),
        (WireNode(id=NODE.id, metadata=(("GENERATOR", "x"),)), Status.INVALID_ARGUMENT),
        (WireNode(id=NODE.id, metadata=(("NAMESPACE", "other"),)), Status.PERMISSION_DENIED),
        (WireNode(id="ztunnel~10.0.0.1~zt.x~x.svc"), Status.PERMISSION_DENIED),
        (WireNode(id=NODE.id, metadata=(("SERVICE_ACCOUNT", "x"),)), Status.PERMISSION_DENIED),
    ],
)
def test_a_node_that_breaks_a_rule_is_turned_away(node: WireNode | None, status: Status) -> None:
    with pytest.raises(GRPCError) as refused:
        admit(node, ZTUNNEL)
    assert refused.value.status is status


@pytest.mark.parametrize(
    "node",
    [
        NODE,
        WireNode(id=NODE.id),
        WireNode(
            id="ztunnel~~zt.x~istio-system.svc", metadata=(("INSTANCE_IPS", "10.0.0.1,fd00::1"),)
        ),
        WireNode(id=NODE.id, metadata=(("SERVICE_ACCOUNT", "ztunnel"),)),
    ],
)
def test_a_node_that_keeps_the_rules_is_taken(node: WireNode) -> None:
    admit(node, ZTUNNEL)


def test_a_token_counts_until_it_is_revoked_and_for_its_own_cluster_only() -> None:
    tokens = Tokens()
    text = tokens.issue("istio-system", "ztunnel", "zt")
    headers = {"authorization": f"Bearer {text}", "clusterid": "Kubernetes"}
    assert tokens.caller(headers, cluster="Kubernetes", refusal="no") == ZTUNNEL
    with pytest.raises(GRPCError, match="no"):
        tokens.caller(headers, cluster="another", refusal="no")
    tokens.revoke(text)
    with pytest.raises(GRPCError, match="no"):
        tokens.caller(headers, cluster="Kubernetes", refusal="no")


@pytest.mark.asyncio
async def test_admission_takes_a_rate_and_lets_nobody_wait_for_more_than_a_second() -> None:
    clock = ManualClock()
    admission = Admission(2.0, clock=clock)
    assert [await admission.enter(), await admission.enter()] == [True, True]
    async with asyncio.TaskGroup() as group:
        third, fourth = (group.create_task(admission.enter()) for _ in range(2))
        fifth = group.create_task(admission.enter())
        await clock.settle()
        assert not third.done()
        assert fifth.result() is False
        await clock.advance(1.0)
    assert [third.result(), fourth.result()] == [True, True]


@given(st.binary(max_size=64))
def test_any_bytes_may_be_served(value: bytes) -> None:
    resource = address("any", value)
    assert names(only(stream(resource).receive(WILDCARD).responses)) == ["any"]
