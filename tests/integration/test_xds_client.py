"""The client of delta ADS against an istiod over real TLS gRPC: what it asks, what it takes, how it comes back."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from grpclib import Status
from grpclib.config import Configuration
from grpclib.protocol import Connection, EventsProcessor

from tests.support.learning import DEADLINE, learning
from ztunnel.endpoint import RootText, TokenText
from ztunnel.testing import FakeRejection
from ztunnel.testing.istiod import ADDRESS, AUTHORIZATION, FakeIstiod, Verdict, faults, mesh
from ztunnel.wire import connection, duplex
from ztunnel.xds import delta

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from h2.events import DataReceived

    from tests.support.learning import Learning
    from ztunnel.testing.istiod.resources import Resource

pytestmark = pytest.mark.asyncio

WEB = mesh.workload("web", ip="10.0.0.7", node="node-a")
DB = mesh.workload("db", ip="10.0.0.8", node="node-b")
SHOP = mesh.service("shop", vip="10.96.0.1", ports={80: 8080})
DENY = mesh.policy("deny", deny=True, ports=[9])


@asynccontextmanager
async def synced(
    folder: Path, *resources: Resource, on_demand: bool = False
) -> AsyncIterator[tuple[FakeIstiod, Learning]]:
    """A client that has learned all of this from an istiod; both run until the end of the block."""
    async with FakeIstiod() as istiod:
        istiod.put(*resources)
        async with learning(istiod, folder, on_demand=on_demand) as one:
            await istiod.synced()
            yield istiod, one


def told(caplog: pytest.LogCaptureFixture, message: str) -> dict[str, Any]:
    """The fields of the last line that says so."""
    found = [record for record in caplog.records if record.message == message]
    assert found, caplog.messages
    fields: dict[str, Any] = found[-1].__dict__["fields"]
    return fields


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="ztunnel")


async def test_the_first_sync_opens_the_gate_and_changes_follow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeIstiod() as istiod:
        istiod.put(WEB, SHOP, DENY)
        async with learning(istiod, tmp_path) as one:
            (stream,) = await istiod.synced()
            await asyncio.wait_for(one.opened.wait(), DEADLINE)
            assert one.names(ADDRESS) == sorted([WEB.name, SHOP.name])
            assert one.names(AUTHORIZATION) == ["default/deny"]
            istiod.put(DB)
            await istiod.answered()
            istiod.remove(WEB)
            await istiod.answered()
            assert one.names(ADDRESS) == sorted([DB.name, SHOP.name])
            assert stream.nacks == []
            assert stream.asked(ADDRESS, Verdict.STALE, Verdict.BREACH) == []
    established = [r for r in caplog.records if r.message == "Stream established"]
    assert [r.__dict__["spans"] for r in established] == [(("xds", {"id": 1}),)]
    assert established[0].name == "ztunnel.xds.client"


async def test_answers_that_come_together_are_acknowledged_in_order_and_in_few_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = 0

    class Counted(EventsProcessor):
        def process_data_received(self, event: DataReceived) -> None:
            nonlocal frames
            frames += 1
            super().process_data_received(event)

    # The server's: the client has one of its own.
    monkeypatch.setattr("grpclib.protocol.EventsProcessor", Counted)
    pods = [mesh.workload(f"pod-{n}", ip=f"10.1.0.{n}", node="node-b") for n in range(100)]
    async with FakeIstiod() as istiod:
        istiod.put(SHOP)
        async with learning(istiod, tmp_path) as one:
            (stream,) = await istiod.synced()
            before, refused = frames, pods[0].name
            one.data_plane.rejections = [FakeRejection(type_url=ADDRESS, name=refused, reason="no")]
            for pod in pods:
                istiod.put(pod)
            await istiod.answered()
            assert one.names(ADDRESS) == sorted([*(pod.name for pod in pods[1:]), SHOP.name])
            answers = [each for each in stream.asked(ADDRESS) if each.nonce]
            assert [each.nonce for each in answers] == [each.nonce for each in stream.told(ADDRESS)]
            refusals = [None, f"{refused}: no", *[None] * (len(pods) - 1)]
            assert [each.error for each in answers] == refusals
            assert frames - before < len(pods) / 2


# RFC 9113 §6.4 and §6.8: CANCEL, of the first stream; and after that, nothing more.
RESET = bytes.fromhex("00000403000000000100000008")
GOAWAY = bytes.fromhex("0000080700000000000000000100000000")


@pytest.mark.parametrize(
    "end",
    [RESET, GOAWAY + GOAWAY, RESET + GOAWAY, RESET + RESET + GOAWAY],
    ids=["reset", "goaways", "reset-goaway", "resets-goaway"],
)
async def test_what_ends_a_stream_twice_at_once_ends_no_more_than_the_stream(
    tmp_path: Path, end: bytes
) -> None:
    async with synced(tmp_path, WEB) as (istiod, one):
        (transport,) = istiod.port.transports()
        transport.write(end)
        await istiod.attempted(2)
        await istiod.observed.wait(lambda: istiod.observed.streams[-1].synced, "a second sync")
        istiod.put(DB)
        await one.until(lambda: DB.name in one.names(ADDRESS), "news on the second stream")


async def test_a5_5_and_7_a_connection_of_maximum_age_is_resumed_and_nothing_is_sent_again(
    tmp_path: Path,
) -> None:
    async with synced(tmp_path, WEB, DB, SHOP, DENY) as (istiod, one):
        held = one.names(ADDRESS)
        istiod.port.go_away()
        await istiod.attempted(2)
        await istiod.observed.wait(lambda: istiod.observed.streams[-1].synced, "a second sync")
        again = istiod.observed.streams[-1]
        (first, *_) = again.asked(ADDRESS, Verdict.FIRST)
        assert sorted(name for name, _ in first.initial_versions) == held
        (addresses,) = again.told(ADDRESS)
        assert (addresses.versions, addresses.removed) == ((), ())
        assert one.names(ADDRESS) == held
        assert one.data_plane.xds_ends == ["Reconnect"]


async def test_a5_5_what_went_meanwhile_is_gone_after_the_next_stream_began(
    tmp_path: Path,
) -> None:
    async with synced(tmp_path, WEB, DB, SHOP, DENY) as (istiod, one):
        await istiod.stop()
        istiod.remove(DB, DENY)
        assert one.names(AUTHORIZATION) == ["default/deny"], "what was learned stays"
        await one.until(lambda: "ConnectionError" in one.data_plane.xds_ends, "an attempt")
        await istiod.start()
        await istiod.synced()
        assert one.names(ADDRESS) == sorted([WEB.name, SHOP.name])
        assert one.names(AUTHORIZATION) == []


async def test_a5_6_a_refusal_is_named_and_the_stream_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with synced(tmp_path, WEB) as (istiod, one):
        one.data_plane.rejections = [
            FakeRejection(type_url=ADDRESS, name=DB.name, reason="decode: no")
        ]
        istiod.put(DB, SHOP)
        assert await istiod.nacked(ADDRESS) == f"{DB.name}: decode: no"
        istiod.remove(WEB)
        await istiod.answered()
        assert one.names(ADDRESS) == [SHOP.name]
        assert one.data_plane.xds_ends == []
    about = told(caplog, "the data plane did not take a resource")
    assert (about["name"], about["reason"]) == (DB.name, "decode: no")


async def test_17_3_5_after_a_status_the_mesh_stays_and_the_next_stream_comes_a_little_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with synced(tmp_path, WEB) as (istiod, one):
        istiod.end_streams(Status.ABORTED, "try again")
        await istiod.attempted(2)
        await istiod.synced()
        assert one.names(ADDRESS) == [WEB.name]
        assert one.data_plane.xds_ends == ["Error"]
    about = told(caplog, "XDS client error")
    assert about["error"] == "ABORTED: try again"
    assert 0.02 <= about["retry_s"] <= 0.03


async def test_a_stream_that_ends_well_at_once_is_no_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeIstiod() as istiod:
        for _ in range(4):
            istiod.next_stream(faults.ENDS_OK)
        async with learning(istiod, tmp_path) as one:
            await istiod.synced()
            assert one.data_plane.xds_ends == ["Complete"] * 4
    waits = [
        r.__dict__["fields"]["retry_s"]
        for r in caplog.records
        if r.message == "XDS stream complete"
    ]
    assert waits == sorted(waits)
    assert waits[-1] >= 0.08


async def test_a_reset_stream_is_another_one_at_once(tmp_path: Path) -> None:
    async with synced(tmp_path, WEB) as (istiod, one):
        istiod.reset_streams()
        await istiod.attempted(2)
        await istiod.synced()
        assert one.data_plane.xds_ends == ["Reconnect"]


async def test_frames_that_nobody_knows_are_no_reason_to_end(tmp_path: Path) -> None:
    async with FakeIstiod() as istiod:
        istiod.put(WEB)
        async with learning(istiod, tmp_path) as one:
            (stream,) = await istiod.synced()
            # An empty frame of type 250, for the connection (RFC 9113 §4.1).
            (transport,) = istiod.port.transports()
            transport.write(bytes((0, 0, 0, 250, 0, 0, 0, 0, 0)))
            istiod.put(DB)
            await istiod.answered()
            assert one.names(ADDRESS) == sorted([WEB.name, DB.name])
            assert stream.ended is None


# A5 row 3: what is read again


async def test_a5_3_the_token_is_read_for_each_stream_and_a_bad_one_is_explained(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeIstiod() as istiod, learning(istiod, tmp_path) as one:
        await istiod.synced()
        old, istiod.token = istiod.token, istiod.tokens.issue("istio-system", "ztunnel")
        istiod.tokens.revoke(old)
        istiod.port.abort()
        await istiod.attempted(3)
        assert istiod.live() == [] or not istiod.live()[0].synced
        one.mounts.token.write(istiod.token + "\n")
        await istiod.synced()
    about = told(caplog, "XDS client connection error")
    assert about["error"].startswith("UNAUTHENTICATED: authentication failure; check the control")
    assert old not in caplog.text


async def test_a5_3_the_roots_are_read_for_each_stream(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeIstiod() as istiod, learning(istiod, tmp_path) as one:
        await istiod.synced()
        istiod.certificates.sign_with(istiod.certificates.add_root())
        istiod.renew_server_certificate()
        istiod.port.abort()
        await one.until(lambda: len(one.data_plane.xds_ends) > 1, "a refused server")
        assert one.data_plane.xds_ends[1] == "ConnectionError"
        # Half written, as nobody should: an error of its own, and no loop.
        one.mounts.roots.write("-----BEGIN CERTIFICATE-----\nMII")
        await one.until(lambda: "Error" in one.data_plane.xds_ends, "roots that are none")
        one.mounts.roots.write(istiod.certificates.bundle)
        await istiod.synced()
    refused = told(caplog, "XDS client connection error")["error"]
    assert "is not trusted; check XDS_ROOT_CA, and XDS_ADDRESS or ALT_XDS_HOSTNAME" in refused
    assert "roots are not certificates in PEM" in told(caplog, "XDS client error")["error"]


async def test_a_server_of_another_name_is_not_believed_unless_it_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeIstiod(host="127.0.0.1", names=["istiod.istio-system.svc"]) as istiod:
        elsewhere = FakeIstiod(host="127.0.0.2", names=["istiod.istio-system.svc"])
        elsewhere._names = ("istiod.istio-system.svc",)
        await elsewhere.start()
        try:
            async with learning(elsewhere, tmp_path / "a") as one:
                await one.until(lambda: one.data_plane.xds_ends, "a refused server")
            async with learning(
                elsewhere,
                tmp_path / "b",
                change=lambda e: dataclasses.replace(e, other_name="istiod.istio-system.svc"),
            ):
                await elsewhere.synced()
        finally:
            await elsewhere.stop()
        assert istiod.observed.opened == 0
    assert "is not trusted" in told(caplog, "XDS client connection error")["error"]


async def test_every_stream_carries_our_headers_and_no_proxy_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T28: an environment that would lead other libraries elsewhere."""
    for name in ("https_proxy", "HTTPS_PROXY", "grpc_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with (
        FakeIstiod() as istiod,
        learning(
            istiod,
            tmp_path,
            change=lambda e: dataclasses.replace(
                e,
                token=TokenText(istiod.token),
                roots=RootText(istiod.certificates.bundle),
                headers=(("header_foo", "foo"),),
            ),
        ),
    ):
        (stream,) = await istiod.synced()
    assert stream.headers["header_foo"] == "foo"
    assert stream.headers["clusterid"] == "Kubernetes"
    assert stream.headers["authorization"] == f"Bearer {istiod.token}"


# Servers that are wrong


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.Garbage(), "sent what is no answer of delta ADS"),
        (faults.Truncated(), "sent what is no answer of delta ADS"),
        (faults.Oversized(), "sends a message of more than 200 MiB: 314572800 bytes"),
    ],
)
async def test_what_is_no_answer_ends_the_stream_and_the_next_one_is_as_good_as_new(
    fault: faults.Fault, error: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeIstiod() as istiod:
        istiod.put(WEB, DENY)
        istiod.next_stream(fault)
        async with learning(istiod, tmp_path) as one:
            await istiod.synced()
            assert one.names(ADDRESS) == [WEB.name]
            assert one.data_plane.xds_ends == ["Error"]
    assert error in told(caplog, "XDS client error")["error"]


async def test_a_server_that_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(duplex, "FIRST_ANSWER", 0.2)
    async with FakeIstiod() as istiod:
        istiod.next_stream(faults.Silence())
        async with learning(istiod, tmp_path):
            await istiod.synced()
    assert "no answer within 0.2 s" in told(caplog, "XDS client connection error")["error"]


async def test_a_server_that_stops_within_a_message_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(duplex, "STALL", 0.2)
    async with FakeIstiod() as istiod:
        istiod.put(WEB)
        istiod.next_stream(faults.Oversized(10_000))
        async with learning(istiod, tmp_path):
            await istiod.synced()
    assert "a message stopped for 0.2 s" in told(caplog, "XDS stream ended")["error"]


async def test_a_server_that_is_half_dead_is_noticed_by_pings_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pings = Configuration(
        _keepalive_time=0.1,
        # Long enough for a machine that does much else.
        _keepalive_timeout=2.0,
        _http2_max_pings_without_data=connection.PINGS._http2_max_pings_without_data,
        _http2_min_sent_ping_interval_without_data=0.05,
    )
    monkeypatch.setattr(connection, "PINGS", pings)
    monkeypatch.setattr(connection, "GOODBYE", 0.1)
    answered: list[float] = []
    heard = Connection.ping_ack_process

    def hear(self: Connection) -> None:
        answered.append(self.last_ping_sent or 0)
        heard(self)

    monkeypatch.setattr(Connection, "ping_ack_process", hear)
    async with FakeIstiod() as istiod:
        # It would send us away for so many; at our own pace it does not.
        assert 2 * istiod.port.ping_interval <= connection.PING_INTERVAL
        istiod.port.ping_interval = 0.0
        istiod.put(WEB)
        async with learning(istiod, tmp_path) as one:
            (stream,) = await istiod.synced()
            # The library's defaults end after two: a stream with nothing to say would be left alone from then on.
            await one.until(lambda: len(answered) >= 6, "pings, and their answers")
            assert stream.ended is None, told(caplog, "XDS stream ended")
            istiod.port.freeze()
            await one.until(lambda: one.data_plane.xds_ends, "silence that is noticed")
            assert one.data_plane.xds_ends[0] == "Reconnect"
            istiod.port.thaw()
            await istiod.synced()
            assert one.names(ADDRESS) == [WEB.name]


async def test_a_server_that_never_shakes_hands_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE", 0.2)
    async with FakeIstiod() as istiod:
        await istiod.port.hang()
        async with learning(istiod, tmp_path) as one:
            await one.until(lambda: one.data_plane.xds_ends, "an attempt that is given up")
            await istiod.port.open()
            await istiod.synced()
    assert "no connection to 127.0.0.1:" in told(caplog, "XDS client connection error")["error"]


async def test_f29_a_server_that_is_not_there_yet_is_awaited_and_the_gate_stays_closed(
    tmp_path: Path,
) -> None:
    async with FakeIstiod() as istiod:
        await istiod.stop()
        async with learning(istiod, tmp_path) as one:
            await one.until(lambda: len(one.data_plane.xds_ends) >= 3, "three attempts")
            assert set(one.data_plane.xds_ends) == {"ConnectionError"}
            assert not one.opened.is_set()
            await istiod.start()
            await istiod.synced()
            await asyncio.wait_for(one.opened.wait(), DEADLINE)


# A5 row 8 and F31: the server's limit


async def test_a5_8_a_resume_that_the_server_refuses_for_its_size_is_whole_the_next_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A limit that is smaller than the one we know of: two tries."""
    pods = [mesh.workload(f"pod-{i}", ip=f"10.1.0.{i}") for i in range(100)]
    async with FakeIstiod() as istiod:
        istiod.max_request = 4000
        istiod.put(*pods)
        async with learning(istiod, tmp_path) as one:
            await istiod.synced()
            istiod.port.abort()
            await istiod.observed.wait(lambda: istiod.observed.opened >= 2, "a second stream")
            istiod.remove(pods[0])
            await istiod.observed.wait(lambda: istiod.observed.opened >= 3, "a third stream")
            await istiod.synced()
            assert istiod.observed.opened == 3
            assert one.names(ADDRESS) == sorted(pod.name for pod in pods[1:])
            (stream,) = istiod.live()
            (first,) = stream.asked(ADDRESS, Verdict.FIRST)
            assert first.initial_versions == ()
            istiod.port.abort()
            await istiod.attempted(4)
            await istiod.synced()
            assert istiod.observed.opened == 4, "not tried again"
    error = told(caplog, "XDS client connection error")["error"]
    assert "received message larger than max" in error
    assert error.endswith("; the next stream begins without the versions that we hold")


async def test_a5_8_a_resume_that_would_be_too_large_is_not_even_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta, "MAX_REQUEST", 4000)
    pods = [mesh.workload(f"pod-{i}", ip=f"10.1.0.{i}") for i in range(100)]
    async with FakeIstiod() as istiod:
        istiod.max_request = 4000
        istiod.put(*pods)
        async with learning(istiod, tmp_path) as one:
            await istiod.synced()
            await istiod.stop()
            istiod.remove(*pods[:50])
            await istiod.start()
            await istiod.synced()
            assert one.names(ADDRESS) == sorted(pod.name for pod in pods[50:])
            assert "Error" not in one.data_plane.xds_ends


async def test_a_limiter_of_new_streams_is_no_matter_of_size(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with synced(tmp_path, WEB) as (istiod, _):
        istiod.next_stream(faults.Close(Status.RESOURCE_EXHAUSTED, faults.RATE_LIMITED), at=0)
        istiod.port.abort()
        await istiod.attempted(3)
        await istiod.synced()
        (stream,) = istiod.live()
        (first,) = stream.asked(ADDRESS, Verdict.FIRST)
        assert [name for name, _ in first.initial_versions] == [WEB.name]
    error = told(caplog, "XDS client connection error")["error"]
    assert error == "RESOURCE_EXHAUSTED: rate limit exceeded"


# On demand


async def test_on_demand_names_come_when_they_are_wanted_and_absent_ones_are_said_to_be(
    tmp_path: Path,
) -> None:
    async with FakeIstiod() as istiod:
        istiod.put(WEB, DB, SHOP, DENY)
        async with learning(istiod, tmp_path, on_demand=True) as one:
            await istiod.synced()
            await asyncio.wait_for(one.opened.wait(), DEADLINE)
            assert one.names(ADDRESS) == [WEB.name], "our own node's"
            one.client.want("/10.0.0.8")
            await one.until(lambda: DB.name in one.names(ADDRESS), "a pod by its address")
            one.client.want("/10.96.0.1")
            await one.until(lambda: SHOP.name in one.names(ADDRESS), "a service by its address")
            one.client.want("/10.9.9.9")
            await one.until(lambda: one.data_plane.absent, "what nobody has")
            assert one.data_plane.absent == ["/10.9.9.9"]
            istiod.port.abort()
            await istiod.attempted(2)
            await istiod.synced()
            (stream,) = istiod.live()
            (first,) = stream.asked(ADDRESS, Verdict.FIRST)
            assert (first.subscribe, first.unsubscribe) == (("*",), ("*",))
            held = sorted(name for name, _ in first.initial_versions)
            assert held == sorted([WEB.name, DB.name, SHOP.name])
            istiod.put(mesh.workload("db", ip="10.0.0.9", node="node-b"))
            await istiod.answered()
            assert one.names(ADDRESS) == held


async def test_on_demand_a_name_that_gets_no_answer_is_asked_for_again_the_other_way(
    tmp_path: Path,
) -> None:
    async with synced(tmp_path, WEB, on_demand=True) as (istiod, one):
        (stream,) = istiod.live()
        # It is subscribed there already, so that asking alone brings no answer at all.
        one.client.want(WEB.name)
        await one.until(lambda: one.client._subscription.wake_at() is None, "an answer")
        assert one.data_plane.absent == []
        asked = [
            (request.subscribe, request.unsubscribe)
            for request in stream.asked(ADDRESS, Verdict.SUBSCRIPTION, Verdict.BREACH)
        ]
        assert asked == [((WEB.name,), ()), ((), (WEB.name,)), ((WEB.name,), ())]
