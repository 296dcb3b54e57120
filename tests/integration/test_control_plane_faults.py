"""C6: a control plane that is killed, hung, replaced or never there, and a machine that makes trouble beside it.

Two dedicated proxies under one fake istiod (ADS and CA), a load between them. What must hold: running traffic does not
notice, readiness tells, the end comes within its deadline, and nothing is applied by halves.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import subprocess
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from grpclib import Status

from tests.support import dedicated, istioctl
from tests.support.control_plane import START_DEADLINE, Proxy, Town
from tests.support.nodes import DEADLINE, eventually
from tests.support.traffic import Traffic
from ztunnel.testing import BackgroundIstiod, ChildIstiod
from ztunnel.testing.istiod import ADDRESS, FakeIstiod, Verdict, answers, faults, mesh

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(120)

APPLICATION = 8080
SUPPORT = Path(__file__).parents[1] / "support"
# What a proxy has for connections (CONNECTION_TERMINATION_DEADLINE of these proxies), and for everything else.
ENDS_WITHIN = 5.0 + 20.0
DENY_ALL = mesh.policy("deny-all", scope="global", deny=True, ports=[APPLICATION])


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with Town(tmp_path) as town:
        yield town


@pytest.fixture
def control_plane(tmp_path: Path, town: Town) -> Iterator[BackgroundIstiod]:
    """It serves, and knows both pods."""
    with BackgroundIstiod(tmp_path) as istiod:
        istiod.put(*town.resources())
        yield istiod


@pytest.fixture
def killable(tmp_path: Path, town: Town) -> Iterator[ChildIstiod]:
    """The same in a process of its own."""
    with ChildIstiod(tmp_path) as istiod:
        istiod.put(*town.resources())
        yield istiod


def proxy(town: Town, istiod: BackgroundIstiod | ChildIstiod, pod: str, **more: str) -> Proxy:
    told = istiod.environment(pod, namespace="default", account=pod)
    return Proxy(town, pod, {**told, **more})


@contextmanager
def both(town: Town, istiod: BackgroundIstiod | ChildIstiod) -> Iterator[dict[str, Proxy]]:
    """Both proxies, ready."""
    pods = {pod: proxy(town, istiod, pod) for pod in town.address}
    with ExitStack() as running:
        for each in pods.values():
            running.push(each.__exit__)
            each.begin()
        for each in pods.values():
            each.wait_until_ready()
        yield pods


def load(town: Town, client: Proxy) -> Traffic:
    return Traffic(client.bound["socks5"], (town.address["server"], APPLICATION), connections=6)


def is_ready(proxy: Proxy) -> bool:
    return proxy.readiness()[0] == 200


def test_a_control_plane_that_is_killed_is_missed_by_nobody_and_resumed_without_sending_again(
    town: Town, killable: ChildIstiod
) -> None:
    with both(town, killable) as pods, load(town, pods["client"]) as traffic:
        killable.kill()
        traffic.goes_on(5)
        assert all(map(is_ready, pods.values()))
        seen = len(killable.seen)
        killable.start()
        for pod in pods:
            told = killable.wait_for(
                lambda line, pod=pod: (  # type: ignore[misc]
                    line.get("told") == ADDRESS and line["name"] == f"{pod}.default"
                ),
                f"{pod} is back",
                after=seen,
            )
            assert (told["resources"], told["removed"]) == ([], [])
        # It is the mesh's word again that counts.
        killable.put(mesh.workload("late", ip="10.9.9.9"))
        for each in pods.values():
            eventually(lambda each=each: "late" in each.names(), "the late one is known")  # type: ignore[misc]
        traffic.goes_on(2)
    assert traffic.failures == []


def test_a_control_plane_that_hangs_is_missed_by_nobody_and_goes_on(
    town: Town, killable: ChildIstiod
) -> None:
    with both(town, killable) as pods, load(town, pods["client"]) as traffic:
        killable.pause()
        traffic.goes_on(5)
        assert all(map(is_ready, pods.values()))
        killable.resume()
        killable.put(mesh.workload("late", ip="10.9.9.9"))
        for each in pods.values():
            eventually(lambda each=each: "late" in each.names(), "the late one is known")  # type: ignore[misc]
        traffic.goes_on(2)
    assert traffic.failures == []


@pytest.mark.slow
def test_a_half_dead_control_plane_is_given_up_by_its_pings_and_missed_by_nobody(
    town: Town, control_plane: BackgroundIstiod
) -> None:
    """It takes bytes and says nothing: pings go out after 30 s, and 10 s later the stream is given up."""
    with both(town, control_plane) as pods, load(town, pods["client"]) as traffic:
        control_plane.freeze()
        control_plane.put(mesh.workload("late", ip="10.9.9.9"))
        for each in pods.values():
            each.access.wait_for("XDS stream ended", within=60)
        traffic.goes_on(5)
        assert all(map(is_ready, pods.values()))
        control_plane.thaw()
        for each in pods.values():
            eventually(lambda each=each: "late" in each.names(), "the late one is known", 30)  # type: ignore[misc]
        traffic.goes_on(2)
    assert traffic.failures == []


def test_a_stranger_in_its_place_is_not_believed_until_the_roots_say_so(
    tmp_path: Path, town: Town, control_plane: BackgroundIstiod
) -> None:
    with both(town, control_plane) as pods, load(town, pods["client"]) as traffic:
        control_plane.stop()
        folder = tmp_path / "stranger"
        folder.mkdir()
        stranger = BackgroundIstiod(folder, port=control_plane.server.port.port)
        stranger.server.tokens = control_plane.server.tokens
        with stranger:
            # It denies everything, and knows nobody.
            stranger.put(DENY_ALL)
            traffic.goes_on(5)
            assert stranger.call(lambda server: server.observed.opened) == 0
            assert all(map(is_ready, pods.values()))
            assert all("client" in each.names() for each in pods.values())
            # Whoever mounts its root means it: now its word counts, and nothing goes through any more.
            for pod in pods:
                control_plane.mounts[pod].roots.write(stranger.roots)
            stranger.synced(2, within=START_DEADLINE)
            stranger.answered()
            for each in pods.values():
                eventually(lambda each=each: each.names() == set(), "only the stranger's mesh")  # type: ignore[misc]
    # What it did to traffic is what it said, and no bytes were wrong.
    assert not [failure for failure in traffic.failures if "other bytes" in failure]


def test_a_control_plane_that_is_never_there_keeps_the_proxy_from_serving_and_readiness_says_why(
    town: Town, control_plane: BackgroundIstiod
) -> None:
    control_plane.stop()
    waiting = proxy(town, control_plane, "client")
    with ExitStack() as running:
        running.push(waiting.__exit__)
        waiting.begin()
        eventually(waiting.is_listening, "readiness answers", START_DEADLINE)
        # The listeners are there, and told of a moment later.
        because = (500, "not ready, pending: state manager\n")
        eventually(lambda: waiting.readiness() == because, "nothing else is awaited")
        _no_traffic(waiting)
        # It is there at last, hours late.
        control_plane.start()
        waiting.wait_until_ready()
        eventually(lambda: is_ready(waiting), "it is ready")


def test_a5_15_a_proxy_that_knows_nothing_dumps_lists_that_are_empty_and_there(
    town: Town, control_plane: BackgroundIstiod
) -> None:
    control_plane.stop()
    waiting = proxy(town, control_plane, "client")
    with ExitStack() as running:
        running.push(waiting.__exit__)
        waiting.begin()
        eventually(waiting.is_listening, "readiness answers", START_DEADLINE)
        dump = waiting.config_dump()
        sections = ("workloads", "services", "policies", "certificates")
        assert [dump[section] for section in sections] == [[], [], [], []]
        tables = istioctl.tables(istioctl.read(json.dumps(dump).encode()), datetime.now(UTC))
        assert tables.startswith("NAMESPACE")


def test_a_first_answer_that_never_comes_keeps_the_proxy_from_serving(
    town: Town, control_plane: BackgroundIstiod
) -> None:
    control_plane.next_stream(faults.Silence())
    waiting = proxy(town, control_plane, "client")
    with ExitStack() as running:
        running.push(waiting.__exit__)
        waiting.begin()
        control_plane.attempted(1, START_DEADLINE)
        assert not is_ready(waiting)
        _no_traffic(waiting)
        control_plane.reset_streams()
        waiting.wait_until_ready()


def test_a_control_plane_that_comes_back_changed_is_followed_at_once_and_wholly(
    town: Town, control_plane: BackgroundIstiod
) -> None:
    """Not by halves: what is forbidden while nobody could say so is cut when somebody can."""
    with both(town, control_plane) as pods, load(town, pods["client"]) as traffic:
        control_plane.stop()
        control_plane.put(DENY_ALL, mesh.workload("new", ip="10.9.9.9"))
        traffic.goes_on(2)
        control_plane.start()
        control_plane.synced(2, START_DEADLINE)
        eventually(lambda: traffic.failures, "the policy cuts what is open")
        for each in pods.values():
            assert {"client", "server", "new"} <= each.names()


NEW = [mesh.workload(f"new-{number}", ip=f"10.9.8.{number}") for number in range(50)]
NEW_NAMES = {f"new-{number}" for number in range(50)}


@pytest.mark.parametrize(
    "fault",
    [faults.Truncated(), faults.Garbage(), faults.Oversized()],
    ids=lambda fault: type(fault).__name__,
)
def test_half_an_answer_changes_nothing(
    town: Town, control_plane: BackgroundIstiod, fault: faults.Fault
) -> None:
    def whole(each: Proxy) -> bool:
        new = each.names() & NEW_NAMES
        assert new in (set(), NEW_NAMES), f"{len(new)} of {len(NEW_NAMES)}"
        return bool(new)

    with both(town, control_plane) as pods, load(town, pods["client"]) as traffic:
        control_plane.stop()
        control_plane.put(*NEW)
        for _ in pods:
            control_plane.next_stream(fault)
        opened = control_plane.call(lambda server: server.observed.opened)
        control_plane.start()
        # The two damaged streams, and one after each.
        control_plane.attempted(opened + 4, START_DEADLINE)
        for each in pods.values():
            eventually(lambda each=each: whole(each), "the whole answer at last", START_DEADLINE)  # type: ignore[misc]
        traffic.goes_on(2)
    assert traffic.failures == []


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (Status.RESOURCE_EXHAUSTED, faults.RATE_LIMITED),
        (Status.INVALID_ARGUMENT, "missing node information"),
        (Status.UNAUTHENTICATED, "authentication failure"),
        (Status.UNAVAILABLE, "transport is closing"),
        (Status.OK, ""),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_stream_that_is_turned_away_once_is_there_at_the_second_try(
    town: Town, control_plane: BackgroundIstiod, status: Status, text: str
) -> None:
    with both(town, control_plane) as pods, load(town, pods["client"]) as traffic:
        for _ in pods:
            control_plane.next_stream(faults.Close(status, text), at=0)
        opened = control_plane.call(lambda server: server.observed.opened)
        control_plane.reset_streams()
        control_plane.attempted(opened + 4, START_DEADLINE)
        control_plane.synced(2, START_DEADLINE)
        assert control_plane.call(lambda server: server.observed.opened) == opened + 4
        traffic.goes_on(2)
        assert all(map(is_ready, pods.values()))
    assert traffic.failures == []


def test_a_resume_that_is_too_large_is_asked_for_whole_and_what_is_gone_goes(
    town: Town, control_plane: BackgroundIstiod
) -> None:
    """istiod takes 4 MiB, some 40,000 names; here it takes as much as a few have (reliability U11)."""
    with both(town, control_plane) as pods, load(town, pods["client"]) as traffic:
        control_plane.put(*NEW)
        control_plane.answered()
        control_plane.call(lambda server: setattr(server, "max_request", 2000))
        control_plane.stop()
        control_plane.remove(*NEW[:20])
        opened = control_plane.call(lambda server: server.observed.opened)
        control_plane.start()
        streams = control_plane.synced(2, START_DEADLINE)
        assert control_plane.call(lambda server: server.observed.opened) == opened + 4
        for stream in streams:
            assert [r.initial_versions for r in stream.asked(ADDRESS, Verdict.FIRST)] == [()]
            # It came whole, once, and nobody had to say what is gone.
            (told, *_) = stream.told(ADDRESS)
            assert (len(told.versions), told.removed) == (len(NEW) - 20 + len(pods), ())
        kept = NEW_NAMES - {f"new-{number}" for number in range(20)}
        for each in pods.values():
            assert each.names() & NEW_NAMES == kept
        traffic.goes_on(2)
    assert traffic.failures == []


@pytest.mark.parametrize("seconds", [3600, -3600], ids=["an-hour-on", "an-hour-back"])
def test_a_clock_that_jumps_disturbs_no_traffic(
    town: Town, control_plane: BackgroundIstiod, tmp_path: Path, seconds: int
) -> None:
    shift = tmp_path / "shift"
    shift.write_text("0")
    told = {"LD_PRELOAD": str(_shim(tmp_path)), "CLOCK_SHIFT": str(shift)}
    pods = {pod: proxy(town, control_plane, pod, **told) for pod in town.address}
    with ExitStack() as running:
        for each in pods.values():
            running.enter_context(each)
        with load(town, pods["client"]) as traffic:
            new = tmp_path / "new"
            new.write_text(str(seconds))
            new.replace(shift)
            traffic.goes_on(5)
            control_plane.reset_streams()
            control_plane.synced(2, START_DEADLINE)
            control_plane.put(mesh.workload("late", ip="10.9.9.9"))
            control_plane.answered()
            traffic.goes_on(5)
            assert all(map(is_ready, pods.values()))
            assert all("late" in each.names() for each in pods.values())
            for each in pods.values():
                # It did jump, for both halves of the proxy: Python has told of the stream's end, Rust of connections.
                for scope in (re.compile("xds"), "access"):
                    told = each.access.all(scope=scope)[-1]["time"]
                    ahead = datetime.fromisoformat(told) - datetime.now(UTC)
                    assert ahead.total_seconds() == pytest.approx(seconds, abs=60), told
    assert traffic.failures == []


def test_a_disk_that_is_full_costs_the_log_and_no_traffic(
    town: Town, control_plane: BackgroundIstiod
) -> None:
    full = {dedicated.OUTPUT: "/dev/full"}
    client = proxy(town, control_plane, "client", **full)
    with proxy(town, control_plane, "server"), ExitStack() as running:
        running.push(client.__exit__)
        client.begin()
        eventually(client.is_listening, "readiness answers", START_DEADLINE)
        eventually(lambda: is_ready(client), "it is ready", START_DEADLINE)
        with load(town, client) as traffic:
            control_plane.reset_streams()
            control_plane.put(mesh.broken_address())
            traffic.goes_on(5)
            control_plane.nacked(ADDRESS)
            assert "server" in client.names()
        assert client.terminate(ENDS_WITHIN) == 0
    assert traffic.failures == []


STAGES = ("started", "refused", "hung", "silent", "no-certificate", "ready")


@pytest.mark.parametrize("stage", STAGES)
def test_a_proxy_ends_in_time_at_every_stage_of_its_start(
    town: Town, control_plane: BackgroundIstiod, stage: str
) -> None:
    match stage:
        case "refused":
            control_plane.stop()
        case "hung":
            control_plane.hang()
        case "silent":
            control_plane.next_stream(faults.Silence())
        case "no-certificate":
            control_plane.call(lambda s: setattr(s.certificates, "answer", answers.never))
        case _:
            pass
    starting = proxy(town, control_plane, "client")
    with ExitStack() as running:
        running.push(starting.__exit__)
        starting.begin()
        _reach(starting, control_plane, stage)
        assert starting.terminate(ENDS_WITHIN) == 0


def _reach(starting: Proxy, istiod: BackgroundIstiod, stage: str) -> None:
    match stage:
        case "started":
            starting.access.wait_for(within=START_DEADLINE)
        case "refused" | "hung":
            eventually(starting.is_listening, "it listens", START_DEADLINE)
        case "silent":
            istiod.attempted(1, START_DEADLINE)
        case "no-certificate":
            istiod.synced(1, START_DEADLINE)
            istiod.wait(_asked_for_a_certificate)
        case _:
            starting.wait_until_ready()


async def _asked_for_a_certificate(server: FakeIstiod) -> None:
    await server.observed.wait(lambda: server.certificates.seen, "a certificate is asked for")


def _no_traffic(waiting: Proxy) -> None:
    """Nobody gets anywhere through it: connections are refused, or taken by the kernel and not answered."""
    greetings = {"socks5": b"\x05\x01\x00", "inbound": b"\x16\x03\x01\x00\x02\x01\x00"}
    with ExitStack() as opened:
        waiting_ones = []
        for listener, greeting in greetings.items():
            with contextlib.suppress(ConnectionRefusedError):
                connection = socket.create_connection(waiting.bound[listener], DEADLINE)
                opened.enter_context(connection)
                connection.sendall(greeting)
                waiting_ones.append(connection)
        answered, _, _ = select.select(waiting_ones, [], [], 0.3)
        # An end is no service; bytes are.
        assert [data for data in map(_one, answered) if data] == []


def _one(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1)
    except ConnectionResetError:
        return b""


def _shim(folder: Path) -> Path:
    """The library that moves a process's wall clock; a C compiler is there wherever Rust links."""
    library = folder / "clock_shift.so"
    source = SUPPORT / "clock_shift.c"
    words = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-o", str(library), str(source), "-ldl"]
    subprocess.run(words, check=True, timeout=60)
    return library
