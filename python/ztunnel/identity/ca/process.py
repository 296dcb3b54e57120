"""The built-in authority in a process of its own, which lives for one signature.

Two reasons. `cryptography` keeps 12 MiB resident, of the 40 that a node has, for one signature in half a
day. And the root's key is never in the process that talks to the network: the proxy holds leaves only.
Without a folder the root is in the child's memory, and the child lives as long as the proxy.
The child's handle is `child.py`, its own side `helper.py`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ztunnel.errors import CaRefusal
from ztunnel.identity.ca import IssuedCertificate
from ztunnel.identity.ca.child import Child

if TYPE_CHECKING:
    from pathlib import Path

    from ztunnel.identity.spiffe import Identity


class ProcessCa:
    """Signs by child processes, one at a time. A `CaClient`."""

    def __init__(
        self,
        directory: Path | None,
        *,
        trust_domain: str,
        leaf_lifetime: float,
        first: Child | None = None,
    ) -> None:
        """`first` is a child that was started early; there is no other reason to hand one in."""
        self._keeps_child = directory is None
        self._folder: dict[str, object] = {
            "directory": None if directory is None else str(directory),
            "trustDomain": trust_domain,
            "leafLifetime": leaf_lifetime,
        }
        self._one_at_a_time = asyncio.Lock()
        self._ready: Child | None = first

    async def open(self) -> None:
        """Makes the folder if it is new; `CaFolderError` if it cannot be used."""
        async with self._one_at_a_time:
            await self._child()

    async def sign(self, csr: bytes, identity: Identity) -> IssuedCertificate:
        """A certificate for `identity`; `CaError` in the words of the child."""
        async with self._one_at_a_time:
            child = await self._child()
            self._ready = None
            keep = False
            try:
                request: dict[str, object] = {
                    "csr": csr.decode("ascii", "replace"),
                    "identity": str(identity),
                }
                answer = await asyncio.to_thread(child.ask, request)
                keep = self._keeps_child
            except CaRefusal:
                keep = (
                    self._keeps_child
                )  # it is well, and its root must not change for a bad request
                raise
            finally:
                if keep:
                    self._ready = child
                else:
                    child.end()
        return IssuedCertificate(
            chain=answer["chain"].encode(),
            roots=answer["roots"].encode(),
            not_before=answer["notBefore"],
            not_after=answer["notAfter"],
        )

    def close(self) -> None:
        """Ends a child that waits."""
        if self._ready is not None:
            self._ready.end()
            self._ready = None

    async def _child(self) -> Child:
        """A child that has opened the folder."""
        child = self._ready or Child()
        self._ready = child
        try:
            await asyncio.to_thread(child.open, self._folder)
        except BaseException:
            self.close()
            raise
        return child
