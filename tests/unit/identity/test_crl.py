"""The file of revoked certificates as it comes, changes, breaks and goes; time by hand."""

from __future__ import annotations

import errno
import logging
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from ztunnel.errors import CredentialError
from ztunnel.identity import crl
from ztunnel.identity.crl import RevokedCertificates
from ztunnel.tasks import LONGEST_PAUSE, FailurePolicy, Tasks
from ztunnel.testing.clock import ManualClock
from ztunnel.testing.dataplane import FakeDataPlane

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio

GARBAGE = b"garbage"
# What spec/reliability.md F34 gives a list to have its effect.
SOON = 3.0


class ParticularDataPlane(FakeDataPlane):
    """Takes everything but garbage."""

    def revoke(self, crl: bytes) -> int:
        """Remembers, or raises as the compiled one does."""
        if crl == GARBAGE:
            raise CredentialError("the list is neither PEM nor DER")
        return super().revoke(crl)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread has a time of its own, which nobody here could move."""

    async def call(_: str, function: Callable[[], Any]) -> Any:
        return function()

    monkeypatch.setattr(crl, "detached", call)


@pytest.fixture
def data_plane() -> Iterator[FakeDataPlane]:
    made = ParticularDataPlane()
    yield made
    made.close()


@asynccontextmanager
async def following(path: Path, data_plane: FakeDataPlane) -> AsyncIterator[ManualClock]:
    clock = ManualClock()
    revoked = RevokedCertificates(path, data_plane=data_plane, clock=clock)
    revoked.start()
    async with Tasks(clock) as tasks:
        tasks.start("revoked certificates", revoked.watch, on_failure=FailurePolicy.RESTART)
        yield clock


async def until_read(clock: ManualClock, data_plane: FakeDataPlane, count: int) -> None:
    await clock.advance(SOON)
    assert len(data_plane.crls) >= count, "not read"


async def test_the_file_is_read_before_the_first_connection_and_again_when_it_changes(
    tmp_path: Path, data_plane: FakeDataPlane
) -> None:
    path = tmp_path / "ca-crl.pem"
    path.write_bytes(b"one")
    async with following(path, data_plane) as clock:
        assert data_plane.crls == [b"one"]
        await clock.advance(10)
        assert data_plane.crls == [b"one"]
        path.write_bytes(b"another")
        await until_read(clock, data_plane, 2)
        assert data_plane.crls == [b"one", b"another"]


async def test_a_missing_file_is_a_warning_and_is_read_when_it_comes(
    tmp_path: Path, data_plane: FakeDataPlane, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "crl" / "ca-crl.pem"
    async with following(path, data_plane) as clock:
        assert data_plane.crls == [b""], "from now on the data plane remembers who is who"
        (record,) = _warnings(caplog)
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith("no file of revoked certificates; nobody is revoked")
        path.parent.mkdir()
        path.write_bytes(b"one")
        await until_read(clock, data_plane, 2)
        assert data_plane.crls == [b"", b"one"]
        assert len(_warnings(caplog)) == 1, "said once"


async def test_kubernetes_swaps_the_folder_above(tmp_path: Path, data_plane: FakeDataPlane) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ca-crl.pem").write_bytes(name.encode())
    data, path = tmp_path / "..data", tmp_path / "ca-crl.pem"
    data.symlink_to("one")
    path.symlink_to("..data/ca-crl.pem")
    async with following(path, data_plane) as clock:
        new = tmp_path / "..data_tmp"
        new.symlink_to("two")
        new.replace(data)
        await until_read(clock, data_plane, 2)
        assert data_plane.crls == [b"one", b"two"]


@pytest.mark.parametrize("harm", ["garbage", "gone", "a folder"])
async def test_a_file_that_breaks_leaves_the_list_as_it_was(
    tmp_path: Path, data_plane: FakeDataPlane, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    path = tmp_path / "ca-crl.pem"
    path.write_bytes(b"good")
    async with following(path, data_plane) as clock:
        path.unlink()
        if harm == "garbage":
            path.write_bytes(GARBAGE)
        elif harm == "a folder":
            path.mkdir()
        await clock.advance(SOON)
        (record,) = _warnings(caplog)
        assert "the list stays as it was" in record.getMessage()
        assert data_plane.crls == [b"good"]
        if harm == "a folder":
            path.rmdir()
        path.write_bytes(b"better")
        await until_read(clock, data_plane, 2)
        assert data_plane.crls == [b"good", b"better"]


async def test_a_file_that_cannot_be_read_for_a_while_is_read_then(
    tmp_path: Path,
    data_plane: FakeDataPlane,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "ca-crl.pem"
    path.write_bytes(b"one")
    async with following(path, data_plane) as clock:
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(crl, "read_small_file", no_descriptor)
            path.write_bytes(b"another")
            await clock.advance(60)
        (record,) = _warnings(caplog)
        assert "the list stays as it was until it can be read" in record.getMessage()
        await until_read(clock, data_plane, 2)
        assert data_plane.crls == [b"one", b"another"]
        await clock.advance(60)
        assert data_plane.crls == [b"one", b"another"], "and once"


async def test_a_list_is_still_to_be_read_after_the_task_that_reads_it_failed(
    tmp_path: Path, data_plane: FakeDataPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ca-crl.pem"
    path.write_bytes(b"one")
    async with following(path, data_plane) as clock:
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(crl, "detached", no_thread)
            path.write_bytes(b"another")
            await clock.advance(SOON)
        await clock.advance(LONGEST_PAUSE)
        await until_read(clock, data_plane, 2)
        assert data_plane.crls == [b"one", b"another"]


async def no_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")


def no_descriptor(path: Path, *, limit: int) -> bytes:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))


async def test_a_file_that_is_garbage_at_the_start_revokes_nobody_and_is_an_error(
    tmp_path: Path, data_plane: FakeDataPlane, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ca-crl.pem"
    path.write_bytes(GARBAGE)
    async with following(path, data_plane):
        assert data_plane.crls == [b""]
        (record,) = _warnings(caplog)
        assert record.levelno == logging.ERROR
        assert record.getMessage().endswith("nobody is revoked until it can be read")


async def test_a_file_that_never_rests_is_read_all_the_same(
    tmp_path: Path, data_plane: FakeDataPlane
) -> None:
    path = tmp_path / "ca-crl.pem"
    path.write_bytes(b"")
    async with following(path, data_plane) as clock:
        began = clock.now().monotonic
        size = 1
        while len(data_plane.crls) < 2:
            path.write_bytes(b"x" * size)
            size += 1
            await clock.advance(0.1)
            assert clock.now().monotonic - began <= SOON


def _warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Whatever level an earlier test has left behind."""
    return [record for record in caplog.records if record.levelno >= logging.WARNING]
