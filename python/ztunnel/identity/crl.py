"""The file of revoked certificates, kept in step with the data plane (spec/control.md §7.7).

Reads the file and hands it over; what is in it, and whom it concerns, is Rust's (`rust/proxy/src/tls/revocation.rs`). A
list that cannot be had never stops a proxy and never clears the one in use: peers are believed as before, and the log and
`ztunnel_crl_unusable_total` say so. Polls as `local/source.py` does, and for its reasons: Kubernetes swaps the folder above.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from ztunnel.errors import CredentialError
from ztunnel.fields import fields
from ztunnel.files import read_small_file, signature_of
from ztunnel.tasks import detached

if TYPE_CHECKING:
    from pathlib import Path

    from ztunnel.clock import Clock
    from ztunnel.dataplane.handle import DataPlane
    from ztunnel.files import Signature

log = logging.getLogger(__name__)

POLL = 0.5
# A file is read when it was left alone for as long as this: half a list is a damaged one, or a right one that is shorter.
SETTLE = 0.25
# And after this however often it changes; with a look and a read, within the 3 s of spec/reliability.md F34.
LONGEST = 2.0
# What Rust takes is less; it says so in its own words.
MAX_BYTES = 32 * 1024 * 1024


class RevokedCertificates:
    """One file, followed for as long as a proxy runs."""

    def __init__(self, path: Path, *, data_plane: DataPlane, clock: Clock) -> None:
        """Does nothing yet."""
        self._path = path
        self._data_plane = data_plane
        self._clock = clock
        self._read = self._look()
        self._unread: str | None = None
        """Why the file that is there could not be read, if so: told, and tried again."""

    def start(self) -> None:
        """Reads it, before the first connection comes; whatever is wrong with it is a line in the log.

        Then there is an empty list: from then on the data plane remembers on whose certificate a tunnel rests.
        """
        self._read = self._look()
        if not self._take(first=True):
            self._data_plane.revoke(b"")

    async def watch(self) -> None:
        """Follows the file until it is cancelled."""
        while True:
            await self._clock.sleep(POLL)
            # What hinders a read may pass and change nothing that can be seen: a descriptor that was not to be had.
            if self._look() != self._read or self._unread is not None:
                seen = await self._settled()
                # In a thread: ten megabytes take a while, and certificates must not wait for them. Nor the end of the program
                # for a file system that hangs.
                await detached("revoked certificates", self._take)
                # Last: this task starts again after a failure, and the file is then still to be read.
                self._read = seen

    def _look(self) -> tuple[Signature, bool]:
        """What tells one state of the file from the next: that it may be read now changes no date."""
        return signature_of(self._path), os.access(self._path, os.R_OK)

    async def _settled(self) -> tuple[Signature, bool]:
        """What there is to see, once it has stayed the same for a while."""
        seen = self._look()
        patience = self._clock.now().monotonic + LONGEST
        while self._clock.now().monotonic < patience:
            await self._clock.sleep(SETTLE)
            before, seen = seen, self._look()
            if before == seen:
                break
        return seen

    def _take(self, *, first: bool = False) -> bool:
        """Whether the data plane has the list now."""
        kept = (
            "nobody is revoked until it can be read"
            if first
            else "the list stays as it was until it can be read"
        )
        before, self._unread = self._unread, None
        try:
            serials = self._data_plane.revoke(read_small_file(self._path, limit=MAX_BYTES))
        except FileNotFoundError:
            log.warning("no file of revoked certificates; %s", kept, extra=fields(path=self._path))
        except OSError as error:
            self._unread = error.strerror or str(error)
            if self._unread != before:
                about = fields(path=self._path, error=self._unread)
                log.error("the file of revoked certificates cannot be read; %s", kept, extra=about)
        except CredentialError as error:
            about = fields(path=self._path, error=error)
            log.error("the file of revoked certificates cannot be used; %s", kept, extra=about)
        else:
            about = fields(path=self._path, serials=serials)
            log.info("revoked certificates read", extra=about)
            return True
        return False
