"""Profiles of a real node: its Rust threads and its Python side, readable by pprof itself (spec/control.md §10.1)."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.http import ask
from tests.support.nodes import Mesh, Node, eventually, http_get
from tests.support.pprof import Profile
from tests.support.two_nodes import two_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT = "/debug/pprof/profile?seconds=1"
PROFILE = "/debug/pprof/profile?seconds=1&frequency=500"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One with an admin port."""
    with Mesh(tmp_path_factory.mktemp("profiled"), network="127.3") as mesh:
        mesh.workload("web")
        with Node(mesh, "web", admin=True) as node:
            yield node


@pytest.fixture(scope="module")
def taken(node: Node) -> bytes:
    """A profile of a second in which both halves are asked for much; on a machine that is busy with others, the first
    in which both were seen: a thread is looked at when it has had a tick's time.
    """
    admin, metrics = node.bound["admin"], node.bound["metrics"]
    with ThreadPoolExecutor(1) as asking:
        for _ in range(8):
            profile = asking.submit(ask, admin, "GET", PROFILE)
            while not profile.done():
                for _ in range(20):
                    ask(metrics, "GET", "/metrics", accept_encoding="br")
                ask(admin, "GET", "/config_dump")
            answer = profile.result()
            assert answer.status == 200, answer.body
            if {"stats"} <= {stack.labels["thread"] for stack in Profile(answer.body).stacks}:
                break
    return answer.body


def test_a_profile_shows_what_both_halves_did(taken: bytes) -> None:
    profile = Profile(taken)
    assert profile.types == [("samples", "count"), ("cpu", "nanoseconds")]
    assert 0.9e9 < profile.message.duration_nanos < 20e9
    threads = {stack.labels["thread"] for stack in profile.of("rust")}
    assert "stats" in threads, threads
    # Our own code by name; a module without symbols by address, for whoever has them.
    names = {name for stack in profile.of("rust") for name in stack.functions}
    named = any("hyper" in name or "stats" in name or "brotli" in name for name in names)
    assert named or profile.unnamed_in("_ztunnel.abi3.so"), names
    python = {name for stack in profile.of("python") for name in stack.functions}
    assert "Connection.run" in python, python
    assert "main" in python
    for stack in profile.stacks:
        assert 0 <= stack.values["cpu"] < 20e9


@pytest.mark.slow
@pytest.mark.timeout(200)  # Go builds the tool when it is asked for the first time
def test_pprofs_own_reader_takes_it(taken: bytes, tmp_path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("needs `go tool pprof`")
    file = tmp_path / "profile.pb"
    file.write_bytes(taken)
    tool = [go, "tool", "pprof", "-symbolize=none"]
    run = subprocess.run(
        [*tool, "-raw", file],
        env={**os.environ, "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    if "no such tool" in run.stderr:
        pytest.skip("this Go comes without pprof")
    assert run.returncode == 0, run.stderr
    assert "PeriodType: cpu nanoseconds" in run.stdout
    assert "thread:[stats]" in run.stdout


def test_profiles_do_not_queue_up(node: Node) -> None:
    admin = node.bound["admin"]
    with ThreadPoolExecutor(8) as crowd:
        asked = [crowd.submit(ask, admin, "GET", PROFILE) for _ in range(8)]
        statuses = sorted(each.result().status for each in asked)
    assert statuses[0] == 200
    assert statuses.count(503) >= 4
    assert set(statuses) == {200, 503}
    assert http_get(node.bound["readiness"], "/healthz/ready") == "ready\n"


def test_the_heap_of_a_running_node(node: Node) -> None:
    admin = node.bound["admin"]
    heap = "/debug/pprof/heap"
    untraced = ask(admin, "GET", heap)
    assert untraced.status == 500
    assert b"malloc, in use: " in untraced.body
    switched = ask(admin, "GET", f"{heap}/profiling?activate=true")
    assert switched.body == b"heap profiling active: true\n"
    ask(admin, "GET", "/config_dump")
    answer = ask(admin, "GET", heap)
    assert answer.status == 200
    profile = Profile(gzip.decompress(answer.body))
    assert profile.types == [("inuse_objects", "count"), ("inuse_space", "bytes")]
    (native,) = profile.of("rust")
    assert native.values["inuse_space"] > 100_000
    assert any("admin/connection.py:" in n for s in profile.of("python") for n in s.functions)
    switched = ask(admin, "GET", f"{heap}/profiling?activate=false")
    assert switched.body == b"heap profiling active: false\n"


def test_the_node_ends_in_the_middle_of_a_profile(tmp_path: Path) -> None:
    with Mesh(tmp_path, network="127.3") as mesh:
        mesh.workload("web")
        with Node(mesh, "web", admin=True, drain="0s") as node, ThreadPoolExecutor(1) as asking:
            admin = node.bound["admin"]
            long = "/debug/pprof/profile?seconds=300"
            profile = asking.submit(ask_and_be_cut, admin, long)
            eventually(lambda: "profile" in threads_of(node), "the profile has begun")
            ask(admin, "POST", "/quitquitquit")
            assert node.wait() == 0
            assert profile.result() is None


def test_traffic_under_a_profile_stays_whole(tmp_path: Path) -> None:
    """Signals come a thousand times a second of a worker's time: into TLS, copying, the event loop."""
    size, rounds = 4 << 20, 8
    admin = {"admin": True}
    with (
        two_nodes(tmp_path, network="127.3", near=admin, far=admin) as pair,
        ThreadPoolExecutor(3) as beside,
    ):
        wanted = "/debug/pprof/profile?seconds=2&frequency=1000"
        profiles = [
            beside.submit(ask, node.bound["admin"], "GET", wanted) for node in (pair.near, pair.far)
        ]
        moved = 0
        while moved < rounds or not all(each.done() for each in profiles):
            client, server = pair.connects()
            data = random.Random(moved).randbytes(size)
            sent = beside.submit(client.says, data)
            assert server.takes(size) == data
            sent.result()
            client.closes()
            server.closes()
            moved += 1
        for profile in profiles:
            read = Profile(profile.result().body)
            workers = [s for s in read.of("rust") if s.labels["thread"].startswith("worker-")]
            assert sum(stack.values["samples"] for stack in workers) > 5
            assert not read.comments, read.comments


def test_a_profile_ends_with_the_client_that_asked_for_it(node: Node) -> None:
    host, port = node.bound["admin"]
    admin = (host, port)
    with socket.create_connection(admin, timeout=10) as client:
        client.sendall(b"GET /debug/pprof/profile?seconds=300 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        busy = "the profile has begun"
        eventually(lambda: ask(admin, "GET", SHORT).status == 503, busy)
    eventually(lambda: ask(admin, "GET", SHORT).status == 200, "room for another", within=60)


def threads_of(node: Node) -> list[str]:
    """The names of its threads."""
    names = []
    for task in Path(f"/proc/{node.pid}/task").iterdir():
        with suppress(OSError):  # it has ended since
            names.append((task / "comm").read_text().strip())
    return names


def ask_and_be_cut(address: tuple[str, int], target: str) -> None:
    """The connection ends without an answer."""
    with pytest.raises(ConnectionError):
        ask(address, "GET", target)
