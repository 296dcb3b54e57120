"""The mesh file that changes while a node runs."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from ztunnel.dataplane.handle import TYPE_SERVICE, TYPE_WORKLOAD
from ztunnel.errors import MeshFileError
from ztunnel.files import read_small_file, signature_of
from ztunnel.local.schema import MeshDocument, parse_mesh
from ztunnel.local.source import LocalMesh, LocalSource
from ztunnel.tasks import FailurePolicy, Tasks
from ztunnel.testing import FakeDataPlane, FakeRejection, ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path
    from typing import TypeAlias

    Load: TypeAlias = Callable[[Path], MeshDocument]

A = "- {name: a, namespace: n, workloadIps: [10.0.0.1]}\n"
B = "- {name: b, namespace: n, workloadIps: [10.0.0.2]}\n"
SERVICE = "services:\n- {name: s, namespace: n, hostname: s, vips: [], ports: {}}\n"

KEY_A, KEY_B, KEY_S = (TYPE_WORKLOAD, "n/a"), (TYPE_WORKLOAD, "n/b"), (TYPE_SERVICE, "n/s")


def load(path: Path) -> MeshDocument:
    return parse_mesh(read_small_file(path, limit=1 << 20), path)


def mesh(path: Path, load: Load = load) -> LocalMesh:
    return LocalMesh(document=load(path), path=path, signature=signature_of(path), load=load)


class Watched:
    """A source at work on a file."""

    def __init__(self, path: Path, text: str | None = None, load: Load = load) -> None:
        if text is not None:
            path.write_text(text)
        self.path, self.clock, self.data_plane = path, ManualClock(), FakeDataPlane()
        self.source = LocalSource(mesh(path, load), data_plane=self.data_plane, clock=self.clock)
        self.source.start()

    def replace(self, text: str) -> None:
        """As editors and Kubernetes do it: a new file under the old name."""
        draft = self.path.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(self.path)

    async def until(self, applied: int) -> None:
        """Lets time pass until so many applies were made in all; the thread that reads needs real time."""
        for _ in range(2000):
            await self.clock.advance(0.1)
            if len(self.data_plane.applied) >= applied:
                return
        raise AssertionError(f"not applied: {self.data_plane.applied}")


@asynccontextmanager
async def watched(path: Path, text: str, load: Load = load) -> AsyncIterator[Watched]:
    one = Watched(path, text, load)
    async with Tasks(one.clock) as tasks:
        tasks.start("mesh file", one.source.watch, on_failure=FailurePolicy.RESTART)
        yield one
    one.data_plane.close()


@pytest.mark.asyncio
async def test_a_change_is_applied_whole_and_what_is_gone_is_removed(tmp_path: Path) -> None:
    async with watched(tmp_path / "m", f"workloads:\n{A}{SERVICE}") as one:
        one.replace(f"workloads:\n{B}")
        await one.until(2)
        assert one.data_plane.applied == [([KEY_A, KEY_S], []), ([KEY_B], [KEY_S, KEY_A])]


def static(source: LocalSource) -> dict[str, list[str]]:
    """What it says, by name."""
    return {
        section: [v if isinstance(v, str) else v["name"] for v in values]
        for section, values in json.loads(source.static_config()).items()
    }


def test_the_static_config_is_the_file_as_it_is_when_somebody_asks(tmp_path: Path) -> None:
    one = Watched(tmp_path / "mesh.yaml", "workloads:\n" + A + SERVICE)
    assert static(one.source) == {"policies": [], "services": ["s"], "workloads": ["a"]}
    one.replace("workloads:\n" + A + B)
    assert static(one.source) == {"policies": [], "services": [], "workloads": ["a", "b"]}
    assert len(one.data_plane.applied) == 1, "asking applies nothing"
    one.data_plane.close()


def test_the_static_config_tells_of_a_file_that_cannot_be_used_and_shows_what_is(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mesh.yaml"
    one = Watched(path, "workloads:\n" + A)
    one.replace("workloads:\n- {name: b, namespace: n, workloadIps: [x], why: 1}\n")
    said = static(one.source)
    assert said.pop("errors") == [
        f"mesh file has 2 mistakes: {path}",
        f'{path}:2:41: workloads[0].workloadIps[0]: not an IP address: "x"',
        f'{path}:2:45: workloads[0]: unknown field: "why"',
    ]
    assert said == {"policies": [], "services": [], "workloads": ["a"]}
    path.unlink()
    (error,) = static(one.source)["errors"]
    assert error == f"the mesh file cannot be read: No such file or directory: {path}"
    one.replace("workloads:\n" + B)
    assert static(one.source) == {"policies": [], "services": [], "workloads": ["b"]}
    one.data_plane.close()


@pytest.mark.asyncio
async def test_a_file_that_stays_is_applied_once(tmp_path: Path) -> None:
    async with watched(tmp_path / "m", f"workloads:\n{A}") as one:
        await one.clock.advance(60)
        assert len(one.data_plane.applied) == 1


@pytest.mark.asyncio
async def test_a_file_with_mistakes_changes_nothing_and_each_mistake_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "m"
    async with watched(path, f"workloads:\n{A}") as one:
        with caplog.at_level(logging.ERROR, logger="ztunnel"):
            one.replace("workloads:\n- {name: a, namespace: n, workloadIps: [x], why: 1}\n")
            for _ in range(2000):
                await one.clock.advance(0.1)
                if len(caplog.records) >= 3:
                    break
            await one.clock.advance(60)
        assert [record.getMessage() for record in caplog.records] == [
            "the mesh file has mistakes; the mesh stays as it is",
            f'{path}:2:41: workloads[0].workloadIps[0]: not an IP address: "x"',
            f'{path}:2:45: workloads[0]: unknown field: "why"',
        ]
        assert list(one.data_plane.resources) == [KEY_A]
        one.replace(f"workloads:\n{B}")
        await one.until(2)
        assert list(one.data_plane.resources) == [KEY_B]


@pytest.mark.asyncio
async def test_a_file_that_goes_and_comes_back_is_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(tmp_path / "m", f"workloads:\n{A}") as one:
        with caplog.at_level(logging.ERROR, logger="ztunnel"):
            one.path.unlink()
            for _ in range(2000):
                await one.clock.advance(0.1)
                if caplog.records:
                    break
            await one.clock.advance(60)
        assert [record.getMessage() for record in caplog.records] == [
            "the mesh file cannot be read; the mesh stays as it is"
        ]
        assert list(one.data_plane.resources) == [KEY_A]
        one.replace(f"workloads:\n{A}{B}")
        await one.until(2)
        assert list(one.data_plane.resources) == [KEY_A, KEY_B]


@pytest.mark.asyncio
async def test_a_file_whose_rights_come_after_its_content_is_read_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Whoever runs the tests may be root, who may read anything.
    allowed, refused = True, 0

    def guarded(path: Path) -> MeshDocument:
        nonlocal refused
        if not allowed:
            refused += 1
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return load(path)

    async with watched(tmp_path / "m", f"workloads:\n{A}", load=guarded) as one:
        with caplog.at_level(logging.ERROR, logger="ztunnel"):
            allowed = False
            one.replace(f"workloads:\n{A}{B}")
            for _ in range(2000):
                await one.clock.advance(0.1)
                if refused >= 3:
                    break
        assert [record.getMessage() for record in caplog.records] == [
            "the mesh file cannot be read; the mesh stays as it is"
        ]
        allowed = True
        await one.until(2)
        assert list(one.data_plane.resources) == [KEY_A, KEY_B]


@pytest.mark.asyncio
async def test_a_file_is_still_to_be_read_after_the_task_that_reads_it_failed(
    tmp_path: Path,
) -> None:
    failures = iter([MemoryError(), MemoryError()])

    def short_of_memory(path: Path) -> MeshDocument:
        if path.read_text().count("name: b") and (failure := next(failures, None)):
            raise failure
        return load(path)

    async with watched(tmp_path / "m", f"workloads:\n{A}", load=short_of_memory) as one:
        one.replace(f"workloads:\n{A}{B}")
        await one.until(2)
        assert list(one.data_plane.resources) == [KEY_A, KEY_B]


@pytest.mark.asyncio
async def test_a_symlink_that_is_swapped_is_a_change(tmp_path: Path) -> None:
    for name, text in (("one", A), ("two", B)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "m").write_text(f"workloads:\n{text}")
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "m").symlink_to("..data/m")
    one = Watched(tmp_path / "m")
    async with Tasks(one.clock) as tasks:
        tasks.start("mesh file", one.source.watch, on_failure=FailurePolicy.RESTART)
        (tmp_path / "..new").symlink_to("two")
        (tmp_path / "..new").replace(tmp_path / "..data")
        await one.until(2)
    assert list(one.data_plane.resources) == [KEY_B]
    one.data_plane.close()


@pytest.mark.asyncio
async def test_a_file_that_is_still_being_written_is_left_alone(tmp_path: Path) -> None:
    async with watched(tmp_path / "m", f"workloads:\n{A}") as one:
        with one.path.open("w") as file:
            file.write("workloads:\n")
            for n in range(40):  # 2 s of writing, each piece a mesh by itself
                file.write(A.replace("name: a", f"name: a{n}"))
                file.flush()
                await one.clock.advance(0.05)
        assert len(one.data_plane.applied) == 1
        await one.until(2)
        assert len(one.data_plane.resources) == 40


def test_a_file_system_that_hangs_does_not_hold_the_end_of_the_program(tmp_path: Path) -> None:
    hangs, goes_on = threading.Event(), threading.Event()

    def hang(path: Path) -> MeshDocument:
        if path.read_text().count("name: b"):
            hangs.set()
            goes_on.wait()
        return load(path)

    async def node() -> None:
        async with watched(tmp_path / "m", f"workloads:\n{A}", load=hang) as one:
            one.replace(f"workloads:\n{A}{B}")
            while not hangs.is_set():
                await one.clock.advance(0.1)

    program = threading.Thread(target=lambda: asyncio.run(node()), daemon=True)
    program.start()
    program.join(10)
    ended = not program.is_alive()
    goes_on.set()
    assert ended


def test_what_rust_does_not_take_at_the_start_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_text(f"workloads:\n{A}")
    data_plane = FakeDataPlane()
    data_plane.rejections = [FakeRejection(type_url=TYPE_WORKLOAD, name="n/a", reason="no reason")]
    source = LocalSource(mesh(path, load), data_plane=data_plane, clock=ManualClock())
    with pytest.raises(MeshFileError) as caught:
        source.start()
    assert caught.value.lines() == [f"{path}:1:1: Workload n/a: no reason"]
    data_plane.close()
