"""The files that Kubernetes mounts into a proxy: the roots and a token, each renewed by swapping a symlink.

    istio/root-cert.pem  → ..data/root-cert.pem       istio/..data  → ..2026_1
    tokens/istio-token   → ..data/istio-token         tokens/..data → ..2026_1

A reader has the old file or the new one, and whoever watches the file itself sees nothing: what a proxy must bear.
"""

from __future__ import annotations

import itertools
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_DATA = "..data"


class Mount:
    """One volume with one file."""

    def __init__(self, folder: Path, name: str, text: str) -> None:
        self.path = folder / name
        """What the proxy is told to read."""
        self._folder = folder
        self._numbers = itertools.count(1)
        folder.mkdir(parents=True, exist_ok=True)
        self.write(text)
        if not self.path.is_symlink():
            self.path.symlink_to(f"{_DATA}/{name}")

    def write(self, text: str) -> None:
        """The file's new content, at once."""
        data, number = self._folder / _DATA, next(self._numbers)
        new = self._folder / f"..2026_{number}"
        new.mkdir()
        (new / self.path.name).write_text(text)
        link = self._folder / "..data_tmp"
        link.symlink_to(new.name)
        old = data.resolve() if data.is_symlink() else None
        link.replace(data)
        if old is not None:
            shutil.rmtree(old)


class Mounts:
    """Both volumes of one proxy."""

    def __init__(self, folder: Path, *, roots: str, token: str) -> None:
        self.roots = Mount(folder / "istio", "root-cert.pem", roots)
        self.token = Mount(folder / "tokens", "istio-token", token)
