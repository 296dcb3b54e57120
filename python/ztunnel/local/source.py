"""Reads the mesh file again when it changes, and applies it whole or not at all.

Polls `(device, inode, mtime, size)` of what the path leads to, every half second through the clock it was
given. Not inotify: a watch sits on an inode or on one directory, and is lost when Kubernetes swaps the
`..data` symlink, an editor renames over the file or a mount changes; a `stat` is right in all of these,
costs 2 µs and needs no dependency.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ztunnel.errors import InvalidFile, MeshFileError, Problem
from ztunnel.fields import fields
from ztunnel.files import signature_of
from ztunnel.local.static import static_config
from ztunnel.tasks import detached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ztunnel.clock import Clock
    from ztunnel.dataplane.handle import DataPlane, Rejection, ResourceKey
    from ztunnel.files import Signature
    from ztunnel.local.schema import MeshDocument

log = logging.getLogger(__name__)

POLL = 0.5
# A file is read when it was left alone for this long: half of a file is often a right, shorter mesh.
SETTLE = 0.1
# Lines of mistakes in the log for one bad file; `ztunnel check` lists them all.
MAX_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalMesh:
    """A mesh file as it was just read, and the way to read it again."""

    document: MeshDocument
    path: Path
    signature: Signature
    """Taken before the file was read, so that no change is missed."""
    load: Callable[[Path], MeshDocument] | None
    """Reads and checks the file; raises `InvalidFile` or `OSError`. None: there is no file to read again."""


class LocalSource:
    """One mesh file, kept in step with the data plane."""

    def __init__(self, mesh: LocalMesh, *, data_plane: DataPlane, clock: Clock) -> None:
        """Does nothing yet."""
        self._mesh = mesh
        self._path = mesh.path
        self._load = mesh.load
        self._data_plane = data_plane
        self._clock = clock
        self._applied: set[ResourceKey] = set()
        self._read: Signature = None
        self._unread: str | None = None
        """Why the file that is there could not be read, if so: told, and tried again."""

    def start(self) -> None:
        """Applies what was just read.

        `MeshFileError` for what the data plane will not take: at the start there is nothing older to keep.
        """
        mesh = self._mesh.document
        self._read = self._mesh.signature
        rejections = self._data_plane.apply(mesh.resources, [])
        self._applied = {resource.key for resource in mesh.resources}
        if rejections:
            raise MeshFileError(self._path, _problems(rejections))
        self._warn(mesh)

    def static_config(self) -> bytes:
        """The file as it is now: `staticConfig` of `/config_dump`, as JSON (spec/control.md §3, §11).

        One that cannot be used is told of there, before what is in use instead. Blocks while it reads; for any thread.
        """
        mesh = self._mesh
        if self._load is None or self._signature() == mesh.signature:
            return static_config(mesh.document.resources)
        try:
            return static_config(self._load(self._path).resources)
        except InvalidFile as error:
            reasons = [str(error), *error.lines()[:MAX_LINES]]
        except OSError as error:
            reasons = [f"the mesh file cannot be read: {error.strerror or error}: {self._path}"]
        return static_config(mesh.document.resources, reasons)

    async def watch(self) -> None:
        """Follows the file, if there is one, until it is cancelled."""
        while self._load is not None:
            await self._clock.sleep(POLL)
            # What hinders a read may pass and change no date: a right that was missing, a descriptor that was not to be had.
            if self._signature() != self._read or self._unread is not None:
                signature = await self._settled()
                await self._reload(signature, self._load)
                # Last: this task starts again after a failure, and the file is then still to be read.
                self._read = signature

    async def _settled(self) -> Signature:
        """The signature, once it has stayed the same for a while."""
        seen = self._signature()
        while True:
            await self._clock.sleep(SETTLE)
            before, seen = seen, self._signature()
            if before == seen:
                return seen

    async def _reload(self, signature: Signature, load: Callable[[Path], MeshDocument]) -> None:
        try:
            # In a thread: a large file takes seconds, and the event pump must not wait for it. Nor the end of the program
            # for a file system that hangs.
            mesh = await detached("mesh file", lambda: load(self._path))
        except InvalidFile as error:
            self._unread = None
            self._refuse(error)
            return
        except OSError as error:
            self._miss(error)
            return
        self._unread = None
        if self._signature() != signature:
            return  # it changed under our hands: the next poll reads it again
        await self._apply(mesh, signature)

    async def _apply(self, mesh: MeshDocument, signature: Signature) -> None:
        keys = {resource.key for resource in mesh.resources}
        removed = sorted(self._applied - keys)
        rejections = await asyncio.to_thread(self._data_plane.apply, mesh.resources, removed)
        self._applied = keys
        self._mesh = dataclasses.replace(self._mesh, document=mesh, signature=signature)
        for rejection in rejections:
            about = fields(
                type_url=rejection.type_url, name=rejection.name, reason=rejection.reason
            )
            log.error("the data plane did not take a resource", extra=about)
        self._warn(mesh)
        log.info(
            "mesh applied", extra=fields(path=self._path, resources=len(keys), removed=len(removed))
        )

    def _miss(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        if reason != self._unread:
            log.error(
                "the mesh file cannot be read; the mesh stays as it is",
                extra=fields(path=self._path, error=reason),
            )
        # One that is gone is looked for by its signature.
        self._unread = None if isinstance(error, FileNotFoundError) else reason

    def _refuse(self, error: InvalidFile) -> None:
        log.error(
            "the mesh file has mistakes; the mesh stays as it is",
            extra=fields(path=self._path, mistakes=len(error.problems)),
        )
        for line in error.lines()[:MAX_LINES]:
            log.error(line)
        if len(error.problems) > MAX_LINES:
            log.error("and more; `ztunnel check` lists them all", extra=fields(path=self._path))

    def _warn(self, mesh: MeshDocument) -> None:
        for problem in mesh.warnings[:MAX_LINES]:
            log.warning("%s:%s", self._path, problem)

    def _signature(self) -> Signature:
        return signature_of(self._path)


def _problems(rejections: Iterable[Rejection]) -> list[Problem]:
    return [
        Problem(1, 1, f"{r.type_url.rpartition('/')[2]} {r.name}", r.reason) for r in rejections
    ]
