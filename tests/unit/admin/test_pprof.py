"""Profiles: what is asked for, what is in them, and that there is one at a time (spec/control.md §10.1)."""

from __future__ import annotations

import asyncio
import errno
import gzip
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from tests.support.pprof import Profile
from ztunnel.admin.access import refusal
from ztunnel.admin.messages import Answer, Request
from ztunnel.admin.pprof import stacks as stacks_module
from ztunnel.admin.pprof.cpu import CpuProfiles
from ztunnel.admin.pprof.heap import HeapProfiles
from ztunnel.admin.pprof.message import Message, read_mappings
from ztunnel.admin.pprof.query import ProfileQuery
from ztunnel.admin.pprof.stacks import PythonStacks
from ztunnel.testing import FakeDataPlane

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ztunnel.testing.dataplane import FakeProfile

HEAP = "/debug/pprof/heap"


def get(target: str, method: str = "GET") -> Request:
    return Request(method=method, target=target, headers=(("host", "localhost"),))


@pytest.mark.parametrize(
    ("query", "seconds", "frequency"),
    [
        ("", 10, 100),
        ("seconds=1", 1, 100),
        ("seconds=300&frequency=1000", 300, 1000),
        ("frequency=1", 10, 1),
        ("other=3", 10, 100),
    ],
)
def test_a_profile_lasts_and_looks_as_often_as_asked(
    query: str, seconds: int, frequency: int
) -> None:
    assert ProfileQuery.read(query) == ProfileQuery(seconds=seconds, frequency=frequency)


@pytest.mark.parametrize(
    "query",
    [
        "seconds=0",
        "seconds=301",
        "seconds=-1",
        "seconds=1e9",
        "seconds=",
        "seconds=1.5",
        "seconds=٣",
        "seconds=" + "9" * 5000,
        "frequency=0",
        "frequency=1001",
        "frequency=fast",
    ],
)
@pytest.mark.asyncio
async def test_what_is_out_of_range_is_told_and_nothing_begins(query: str) -> None:
    data_plane = FakeDataPlane()
    answer = await CpuProfiles(data_plane).answer(get(f"/debug/pprof/profile?{query}"))
    assert (answer.status, answer.kind) == (400, "text/plain")
    name = query.partition("=")[0]
    assert answer.text.startswith(f"{name} must be a whole number from 1 to ".encode())
    assert len(answer.text) < 200
    assert data_plane.profiles == []


class Profiling:
    """Profiles of a process whose second is as long as the test wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.over = asyncio.Event()
        self.asked: list[float] = []
        self.data_plane = FakeDataPlane()
        self.data_plane.stacks = [
            (-7, "worker-0", 3, [10, 20]),
            (threading.get_native_id(), "python", 9, [30]),
        ]
        self.profiles = CpuProfiles(self.data_plane)
        monkeypatch.setattr("ztunnel.admin.pprof.cpu.asyncio.sleep", self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self.over.wait()

    async def ask(self, query: str = "seconds=7") -> Answer:
        return await self.profiles.answer(get(f"/debug/pprof/profile?{query}"))


@pytest.mark.asyncio
async def test_a_profile_holds_rusts_threads_and_pythons_and_none_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profiling = Profiling(monkeypatch)
    profiling.over.set()
    done = threading.Event()
    busy = threading.Thread(target=_burn, args=(done,), name="busy")
    busy.start()
    try:
        # Looks until the thread has had time enough to be seen.
        deadline = time.monotonic() + 15
        while True:
            assert time.monotonic() < deadline
            answer = await profiling.ask()
            profile = Profile(answer.text)
            if any("_burn" in stack.functions[0] for stack in profile.of("python")):
                break
    finally:
        done.set()
        busy.join()
    assert (answer.status, answer.kind) == (200, "application/octet-stream")
    assert profiling.asked[0] == 7
    assert profile.types == [("samples", "count"), ("cpu", "nanoseconds")]
    assert profile.message.period == 10_000_000
    (rust,) = profile.of("rust")
    assert rust.functions == ["function_10", "function_20"]
    assert rust.values == {"samples": 3, "cpu": 30_000_000}
    assert rust.labels["thread"] == "worker-0"
    ours = next(s for s in profile.of("python") if "_burn" in s.functions[0])
    assert ours.labels["thread"] == "busy"
    assert ours.values["cpu"] > 0


def _burn(done: threading.Event) -> None:
    while not done.is_set():
        sum(range(100))


@pytest.mark.asyncio
async def test_one_profile_at_a_time_and_one_that_nobody_waits_for_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profiling = Profiling(monkeypatch)
    before = threading.active_count()
    first = asyncio.ensure_future(profiling.ask())
    while not profiling.asked:
        await asyncio.wait([first], timeout=0.01)
    refused = await profiling.ask()
    assert refused.status == 503
    assert len(profiling.data_plane.profiles) == 1
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert profiling.data_plane.profiles[0].finished == 1
    assert not any(t.name == "python profile" for t in threading.enumerate())
    assert threading.active_count() <= before + 2  # asyncio's own pool
    profiling.over.set()
    assert (await profiling.ask()).status == 200


@pytest.mark.asyncio
async def test_a_profile_that_cannot_begin_says_why_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profiling = Profiling(monkeypatch)

    def taken(period: float, skipped: object) -> FakeProfile:
        raise OSError(errno.EADDRINUSE, "SIGPROF belongs to somebody else in this process")

    with monkeypatch.context() as patched:
        patched.setattr(profiling.data_plane, "start_profile", taken)
        answer = await profiling.ask()
    assert answer.status == 503
    assert b"SIGPROF belongs to somebody else" in answer.text
    assert not any(t.name == "python profile" for t in threading.enumerate())
    profiling.over.set()
    assert (await profiling.ask()).status == 200


@pytest.mark.asyncio
async def test_a_head_takes_no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    profiling = Profiling(monkeypatch)
    answer = await profiling.profiles.answer(get("/debug/pprof/profile", "HEAD"))
    assert (answer.status, answer.text) == (200, b"")
    assert profiling.data_plane.profiles == []


def test_stacks_are_bounded_and_what_is_left_out_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stacks_module, "MOST_STACKS", 0)
    done = threading.Event()
    busy = threading.Thread(target=_burn, args=(done,))
    busy.start()
    stacks = PythonStacks(0.001)
    deadline = time.monotonic() + 15
    while not stacks.lost and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    stacks.end()
    done.set()
    busy.join()
    assert stacks.lost > 0
    assert stacks.found == {}


def test_an_address_without_a_function_still_says_in_which_file_it_is() -> None:
    maps = (
        "7f00-7f10 r--p 00000000 08:01 1    /lib/a.so\n"
        "7f10-7f40 r-xp 00001000 08:01 1    /lib/a.so\n"
        "7f40-7f50 rw-p 00000000 00:00 0 \n"
        "7f50-7f60 r-xp 00000000 00:00 0    [vdso]\n"
        "8000-9000 r-xp 00000000 08:01 2    /lib/with a blank.so (deleted)\n"
    )
    message = Message(counted=[("cpu", "nanoseconds")], mappings=read_mappings(maps))
    number = message.address(0x7F20, ())
    assert message.address(0x7F20, ()) == number
    message.sample([number, message.address(0x1, ())], [1], {"side": "rust"})
    profile = Profile(message.encode())
    mappings = profile.message.mapping
    assert [m.memory_start for m in mappings] == [0x7F10, 0x8000]
    # pprof looks for names by itself where a mapping says that it has none.
    assert [m.has_functions for m in mappings] == [False, True]
    first, second = profile.message.location
    assert (first.address, first.mapping_id) == (0x7F20, 1)
    assert (second.address, second.mapping_id) == (0x1, 0)


@pytest.fixture
def heap() -> Iterator[HeapProfiles]:
    yield HeapProfiles(FakeDataPlane())
    tracemalloc.stop()


@pytest.mark.asyncio
async def test_without_tracing_a_heap_profile_is_an_explanation_with_figures(
    heap: HeapProfiles,
) -> None:
    answer = await heap.answer(get(HEAP))
    assert (answer.status, answer.kind) == (500, "text/plain")
    assert b"activate=true" in answer.text
    assert b"malloc, in use: 1024 bytes\n" in answer.text


@pytest.mark.asyncio
async def test_a_heap_profile_shows_who_holds_what_while_it_is_traced(heap: HeapProfiles) -> None:
    on = heap.profiling(get(f"{HEAP}/profiling?activate=true", "POST"))
    assert (on.status, on.text) == (200, b"heap profiling active: true\n")
    held = [bytearray(100_000) for _ in range(10)]
    answer = await heap.answer(get(HEAP))
    assert (answer.status, answer.kind) == (200, "application/octet-stream")
    profile = Profile(gzip.decompress(answer.text))
    assert profile.types == [("inuse_objects", "count"), ("inuse_space", "bytes")]
    largest = max(profile.of("python"), key=lambda stack: stack.values["inuse_space"])
    assert largest.values["inuse_space"] >= 1_000_000
    assert largest.values["inuse_objects"] >= 10
    assert "test_pprof.py:" in largest.functions[0]
    (native,) = profile.of("rust")
    # The fake's heap is smaller than what is held here in truth.
    assert native.values["inuse_space"] == 0
    assert "malloc, in use: 1024 bytes" in profile.comments
    del held
    off = heap.profiling(get(f"{HEAP}/profiling?activate=false"))
    assert off.text == b"heap profiling active: false\n"
    assert (await heap.answer(get(HEAP))).status == 500


def test_only_true_and_false_switch_tracing(heap: HeapProfiles) -> None:
    for wish in ("", "1", "TRUE", "yes" * 1000):
        answer = heap.profiling(get(f"{HEAP}/profiling?activate={wish}"))
        assert answer.status == 400
        assert len(answer.text) < 100
    for method in ("PUT", "DELETE", "HEAD", "OPTIONS"):
        assert heap.profiling(get(f"{HEAP}/profiling?activate=true", method)).status == 405
    assert heap.profiling(get(f"{HEAP}/profiling")).text == b"heap profiling active: false\n"


@pytest.mark.parametrize("path", ["profile", "heap", "heap/profiling?activate=true"])
@pytest.mark.parametrize(
    "header", [("origin", "null"), ("sec-fetch-site", "cross-site"), ("origin", "http://evil")]
)
def test_a_page_in_a_browser_starts_no_profile(path: str, header: tuple[str, str]) -> None:
    request = Request(
        method="GET", target=f"/debug/pprof/{path}", headers=(("host", "localhost"), header)
    )
    refused = refusal(request)
    assert refused is not None
    assert refused.status == 403
