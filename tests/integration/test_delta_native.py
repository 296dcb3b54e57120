"""Answers of delta ADS in the compiled data plane, beside their plain counterparts in Python and a real istiod's."""

from __future__ import annotations

import base64
import gc
import json
import random
import select
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ztunnel.dataplane.handle import (
    TYPE_ISTIO_ADDRESS,
    TYPE_ISTIO_AUTHORIZATION,
    TYPE_WORKLOAD,
    Resource,
)
from ztunnel.dataplane.native import NativeDataPlane
from ztunnel.testing.delta import DictLedger, ReadResponse
from ztunnel.wire.discovery import WireResource, WireResponse
from ztunnel.wire.protobuf import NotProtobuf, bytes_field, integer_field, text_field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ztunnel.dataplane.handle import DeltaResponse

RECORDED = Path(__file__).parents[1] / "vectors" / "istiod"
WEB = {
    "uid": "web",
    "name": "web",
    "namespace": "default",
    "serviceAccount": "web",
    "workloadIps": ["127.0.0.9"],
    "network": "other",
    "services": {},
}
SETTINGS = {"workload": {"name": "web", "namespace": "default", "serviceAccount": "web"}}

# Few, so that names meet; of every length and script, so that what is compact is tried.
NAMES = ("a", "b", "ns/host", "/10.0.0.1", "Kubernetes//Pod/ns/a", "ü" * 90)
SEEDS = range(300)


class Luck(random.Random):
    """Parts of answers by chance, the same for the same seed."""

    def names(self, most: int) -> list[str]:
        return self.choices(NAMES, k=self.randint(0, most))

    def version(self) -> str:
        return self.choice(
            ("", "1", "F" * 16, f"{self.getrandbits(64):016x}", "v" * self.randint(0, 300))
        )

    def resource(self) -> WireResource:
        return WireResource(
            name=self.choice(NAMES),
            version=self.version(),
            aliases=tuple(self.names(2)),
            type_url=TYPE_ISTIO_ADDRESS,
            value=self.randbytes(self.randint(0, 8)) if self.random() < 0.9 else None,
        )

    def response(self) -> WireResponse:
        return WireResponse(
            type_url=TYPE_ISTIO_ADDRESS,
            nonce=self.choice(("", "n", "ü")),
            resources=[self.resource() for _ in range(self.randint(0, 5))],
            removed=self.names(3),
            version="v",
        )


def delta(*resources: WireResource, removed: tuple[str, ...] = (), **more: str) -> bytes:
    fields = {"type_url": TYPE_ISTIO_ADDRESS, "nonce": "1"} | more
    return WireResponse(resources=resources, removed=removed, **fields).encode()


def pod(name: str, address: bytes) -> WireResource:
    """A workload of `istio.workload.Address` (spec/control.md §6.1)."""
    workload = text_field(1, name) + text_field(2, "ns") + bytes_field(3, address)
    value = bytes_field(1, workload + text_field(20, f"uid/{name}"))
    return WireResource(name=f"uid/{name}", version="1", value=value)


def recorded(name: str) -> list[bytes]:
    lines = [json.loads(line) for line in (RECORDED / name).read_text().splitlines()]
    return [base64.b64decode(line["response"]) for line in lines if "response" in line]


def section(data_plane: NativeDataPlane, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(data_plane.dump(name))
    return found


@pytest.fixture(scope="module")
def door() -> Iterator[NativeDataPlane]:
    """One whose mesh nobody looks at."""
    it = NativeDataPlane(json.dumps(SETTINGS).encode())
    yield it
    it.stop()


@pytest.fixture
def data_plane() -> Iterator[NativeDataPlane]:
    it = NativeDataPlane(json.dumps(SETTINGS).encode())
    yield it
    it.stop()


def same(ours: DeltaResponse, theirs: ReadResponse, wanted: list[str]) -> None:
    assert (ours.type_url, ours.nonce) == (theirs.type_url, theirs.nonce)
    assert (ours.count, ours.payload) == (theirs.count, theirs.payload)
    assert list(ours.removed) == list(theirs.removed)
    assert ours.answers(wanted) == theirs.answers(wanted)


def test_a_random_answer_is_read_as_python_reads_it(door: NativeDataPlane) -> None:
    # What nobody knows yet is passed over: a number, a text, eight bytes and four.
    unknown = integer_field(99, 5) + text_field(98, "x") + b"\x89\x06" + bytes(8) + b"\x95\x06...."
    for seed in SEEDS:
        luck = Luck(seed)
        message = luck.response().encode() + unknown
        same(door.read_delta(message), ReadResponse(message), [*luck.names(4), "nobody"])


def test_what_was_cut_is_refused_where_python_refuses_it(door: NativeDataPlane) -> None:
    refused = 0
    for seed in SEEDS:
        luck = Luck(seed)
        message = luck.response().encode()
        message = message[: luck.randint(0, len(message))]
        try:
            theirs = ReadResponse(message)
        except NotProtobuf:
            refused += 1
            with pytest.raises(ValueError, match=r"^not a DeltaDiscoveryResponse: "):
                door.read_delta(message)
        else:
            same(door.read_delta(message), theirs, [])
    assert 50 < refused < len(SEEDS), refused


def test_a_ledger_holds_what_a_dict_would(door: NativeDataPlane) -> None:
    for seed in SEEDS:
        luck = Luck(seed)
        ours, theirs = door.new_ledger(), DictLedger()
        for _ in range(luck.randint(1, 8)):
            message = luck.response().encode()
            mine, plain = door.read_delta(message), ReadResponse(message)
            assert ours.missing(mine) == theirs.missing(plain), seed
            rejected, forgotten = luck.names(2), luck.names(1)
            ours.record(mine, rejected)
            theirs.record(plain, rejected)
            ours.forget(forgotten)
            theirs.forget(forgotten)
            assert len(ours) == len(theirs), seed
            for limit in (0, 10, 40, 100, 1000, 10_000):
                assert ours.versions(limit) == theirs.versions(limit), (seed, limit)


@pytest.mark.parametrize(
    "name",
    ["delta-session.jsonl", "delta-resume.jsonl", "delta-on-demand.jsonl", "delta-nack.jsonl"],
)
def test_what_istiod_said_is_read_as_python_reads_it_and_taken(
    name: str, data_plane: NativeDataPlane
) -> None:
    for message in recorded(name):
        ours, theirs = data_plane.read_delta(message), ReadResponse(message)
        wanted = [each.name for each in theirs.resources]
        wanted += [alias for each in theirs.resources for alias in each.aliases]
        same(ours, theirs, [*wanted, "nobody"])
        assert data_plane.apply_delta(ours) == []


def test_a_bad_resource_is_rejected_by_name_and_the_others_are_taken(
    data_plane: NativeDataPlane,
) -> None:
    message = delta(
        pod("a", bytes([10, 0, 0, 1])),
        WireResource(name="empty"),
        WireResource(name="broken", value=b"\x0a\x05x"),
        pod("b", bytes(3)),
        pod("c", bytes([10, 0, 0, 3])),
    )
    rejections = data_plane.apply_delta(data_plane.read_delta(message))
    reasons = {rejection.name: rejection.reason for rejection in rejections}
    assert reasons.keys() == {"empty", "broken", "uid/b"}
    assert reasons["empty"] == "XDS payload without resource"
    assert reasons["broken"].startswith("decode: ")
    assert reasons["uid/b"] == "workload.addresses[0]: expected 4 or 16 bytes, found 3"
    assert {rejection.type_url for rejection in rejections} == {TYPE_ISTIO_ADDRESS}
    assert [w["uid"] for w in section(data_plane, "workloads")] == ["uid/a", "uid/c"]


def test_what_is_gone_is_gone_though_it_came_in_the_same_answer(
    data_plane: NativeDataPlane,
) -> None:
    both = [pod("a", bytes([10, 0, 0, 1])), pod("b", bytes([10, 0, 0, 2]))]
    message = delta(*both, pod("c", bytes([10, 0, 0, 3])), removed=("uid/a", "unknown"))
    assert data_plane.apply_delta(data_plane.read_delta(message), ["uid/b"]) == []
    assert [w["uid"] for w in section(data_plane, "workloads")] == ["uid/c"]


def test_an_answer_of_an_unknown_type_is_counted_and_changes_nothing(
    data_plane: NativeDataPlane,
) -> None:
    message = delta(pod("a", bytes([10, 0, 0, 1])), type_url="type.googleapis.com/unknown")
    assert data_plane.apply_delta(data_plane.read_delta(message)) == []
    assert section(data_plane, "workloads") == []
    assert b'istio_xds_message_total{url="type.googleapis.com/unknown"} 1' in data_plane.metrics()


def test_answers_and_ends_of_streams_are_counted(data_plane: NativeDataPlane) -> None:
    assert b"istio_xds" not in data_plane.metrics()
    one = pod("a", bytes([10, 0, 0, 1]))
    size = len(one.value or b"")
    for message in (delta(one), delta(one, one), delta(type_url=TYPE_ISTIO_AUTHORIZATION)):
        data_plane.apply_delta(data_plane.read_delta(message))
    data_plane.count_xds_end("Reconnect")
    with pytest.raises(ValueError, match="no end that a stream has: Whim"):
        data_plane.count_xds_end("Whim")
    lines = data_plane.metrics().decode().splitlines()
    assert [line for line in lines if line.startswith("istio_xds")] == [
        'istio_xds_connection_terminations_total{reason="Reconnect"} 1',
        f'istio_xds_message_total{{url="{TYPE_ISTIO_AUTHORIZATION}"}} 1',
        f'istio_xds_message_total{{url="{TYPE_ISTIO_ADDRESS}"}} 2',
        f'istio_xds_message_bytes_total{{url="{TYPE_ISTIO_AUTHORIZATION}"}} 0',
        f'istio_xds_message_bytes_total{{url="{TYPE_ISTIO_ADDRESS}"}} {3 * size}',
    ]
    assert any(line.startswith("ztunnel_xds_last_update_age_seconds 0.") for line in lines)


def test_python_goes_on_while_a_large_answer_is_applied(data_plane: NativeDataPlane) -> None:
    pods = [pod(f"pod-{n}", n.to_bytes(4, "big")) for n in range(20_000)]
    message = delta(*pods)
    # Once is enough: had Rust kept the interpreter, there would be one gap as long as all of it, every time. Where others
    # have the processors for long, there may be one without that.
    looks = (_longest_gap(data_plane, message) for _ in range(5))
    assert any(gap < took / 2 for gap, took in looks)


def _longest_gap(data_plane: NativeDataPlane, message: bytes) -> tuple[float, float]:
    """For how long Python stood still while another thread applied it, and how long that took."""
    done: list[float] = []

    def apply() -> None:
        start = time.perf_counter()
        response = data_plane.read_delta(message)
        assert data_plane.apply_delta(response) == []
        ledger = data_plane.new_ledger()
        ledger.record(response, [])
        assert ledger.missing(response) == []
        done.append(time.perf_counter() - start)

    thread = threading.Thread(target=apply)
    thread.start()
    gaps, last = [], time.perf_counter()
    while not done:
        now = time.perf_counter()
        gaps.append(now - last)
        last = now
    thread.join(20)
    return max(gaps), done[0]


def test_what_a_connection_needs_is_asked_for_and_not_waited_for_in_vain() -> None:
    with socket.create_server(("127.0.0.1", 0)) as application:
        application.settimeout(20)
        target = "{}:{}".format(*application.getsockname())
        forward = {"listen": "127.0.0.1:0", "target": target}
        # A patience longer than the test's: whoever goes on has been released.
        more = {
            "onDemand": True,
            "deadlines": {"demand": 600.0},
            "listeners": {"forwards": [forward]},
        }
        data_plane = NativeDataPlane(json.dumps(SETTINGS | more).encode())
        try:
            way_in = data_plane.start()["forwards[0]"]
            local = Resource(type_url=TYPE_WORKLOAD, name="web", value=json.dumps(WEB).encode())
            assert data_plane.apply([local], []) == []
            data_plane.mark_synced()
            host, _, port = way_in.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=20) as client:
                assert wanted(data_plane) == "other/127.0.0.1"
                data_plane.not_there("other/127.0.0.1")
                client.sendall(b"hello")
                server, _ = application.accept()
                with server:
                    server.settimeout(20)
                    assert server.recv(5) == b"hello"
        finally:
            data_plane.stop()


def wanted(data_plane: NativeDataPlane) -> str:
    """The name of the next resource that is wanted."""
    poll = select.poll()
    poll.register(data_plane.event_fd, select.POLLIN)
    while poll.poll(20_000):
        for event in data_plane.take_events():
            if event.kind == "resource_wanted":
                assert event.identity is None
                return event.detail
    raise AssertionError("nothing is wanted")


def test_a_message_is_kept_and_not_copied(door: NativeDataPlane) -> None:
    message = delta(WireResource(name="a", value=bytes(1000)))
    before = _references(message)
    response = door.read_delta(message)
    assert _references(message) == before + 1
    del response
    assert _references(message) == before


def _references(thing: object) -> int:
    gc.collect()
    return sys.getrefcount(thing)


def test_only_bytes_are_read(door: NativeDataPlane) -> None:
    for wrong in ("text", bytearray(b""), memoryview(b""), None):
        with pytest.raises(TypeError):
            door.read_delta(wrong)  # type: ignore[arg-type]
