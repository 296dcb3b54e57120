"""The built-in CA's folder: `root-key.pem` (0600) and `root.pem`, made once, shared by several nodes.

Files only: what is in them is `selfsigned.py`'s. A folder that is not as it must be is refused and left
alone; a root that is replaced in silence would cut every running node off from its peers.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ztunnel.errors import CaFolderError
from ztunnel.files import read_small_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY_FILE = "root-key.pem"
ROOT_FILE = "root.pem"
LOCK_FILE = ".lock"

# Whoever holds the lock makes one key and writes two files: milliseconds. Longer means a stuck process.
LOCK_DEADLINE = 5.0
LOCK_STEP = 0.02
MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RootFiles:
    """What is in the folder, as PEM."""

    key: bytes
    roots: bytes
    """The signer's certificate first; further ones are trusted as well (for changing the root)."""

    def __repr__(self) -> str:
        """Without the key."""
        return f"RootFiles(roots={len(self.roots)} bytes)"


def load_or_make(directory: Path, make: Callable[[], RootFiles]) -> RootFiles:
    """The folder's files; those of `make()` if the folder is new. `CaFolderError` if it cannot be used."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_if_open_to_others(directory)
        with _locked(directory):
            return _load(directory) or _store(directory, make())
    except OSError as error:
        reason = error.strerror or str(error)
        raise CaFolderError(
            f"the CA folder cannot be used ({reason}): {error.filename or directory}"
        ) from error


def _load(directory: Path) -> RootFiles | None:
    key_path, root_path = directory / KEY_FILE, directory / ROOT_FILE
    has_key, has_root = os.path.lexists(key_path), os.path.lexists(root_path)
    if not has_key and not has_root:
        return None
    for path, there, other in ((key_path, has_key, ROOT_FILE), (root_path, has_root, KEY_FILE)):
        if not there:
            hint = f"; bring it back, or remove {other} to start with a new root"
            raise CaFolderError(
                f"the CA folder is incomplete, {path.name} is missing{hint}: {directory}"
            )
    mode = stat.S_IMODE(key_path.stat().st_mode)
    if mode & 0o077:
        raise CaFolderError(
            f"the CA's key can be read by others (mode {mode:04o}); chmod 600 {key_path}"
        )
    return RootFiles(
        key=read_small_file(key_path, limit=MAX_BYTES),
        roots=read_small_file(root_path, limit=MAX_BYTES),
    )


def _store(directory: Path, files: RootFiles) -> RootFiles:
    # The key last: a crash between the two leaves a folder that says what is missing, never a key that
    # signs for a root that nobody has.
    _write(directory / ROOT_FILE, files.roots, 0o644)
    _write(directory / KEY_FILE, files.key, 0o600)
    return files


def _write(path: Path, data: bytes, mode: int) -> None:
    """Whole or not at all: a file beside it, flushed, then renamed."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)  # a dead process's: we hold the lock
    descriptor = os.open(
        draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode
    )
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - Path.open takes no descriptor
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def _refuse_if_open_to_others(directory: Path) -> None:
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & 0o022:
        raise CaFolderError(
            f"others may change the CA folder (mode {mode:04o}); chmod 700 {directory}"
        )


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Alone in the folder; the system frees the lock when a process dies."""
    descriptor = os.open(
        directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        deadline = time.monotonic() + LOCK_DEADLINE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise CaFolderError(
                        f"another process keeps the CA folder locked: {directory}"
                    ) from None
                time.sleep(LOCK_STEP)
        yield
    finally:
        os.close(descriptor)
