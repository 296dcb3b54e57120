"""The built-in authority in a process of its own, which lives for one signature.

Two reasons. `cryptography` keeps 12 MiB resident, of the 40 that a node has, for one signature in half a
day. And the root's key is never in the process that talks to the network: the proxy holds leaves only.
The child is `helper.py`; it is started before it is needed, so that a node does not wait for its imports.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from ztunnel import errors
from ztunnel.errors import CaError, CaUnavailable
from ztunnel.identity.ca import IssuedCertificate

if TYPE_CHECKING:
    from pathlib import Path

    from ztunnel.identity.spiffe import Identity

# An answer has about 2 KiB, with each further root 1 KiB more (`roots.py` bounds their number).
MAX_ANSWER = 8 * 1024 * 1024


class ProcessCa:
    """Signs by child processes, one at a time. A `CaClient`."""

    def __init__(self, directory: Path, *, trust_domain: str, leaf_lifetime: float) -> None:
        """Starts the first child, which waits for the first request."""
        # -P: `-m` alone would look for modules in the current directory first, whoever may write there.
        helper = [sys.executable, "-P", "-m", "ztunnel.identity.ca.helper"]
        self._command = [*helper, str(directory), trust_domain, repr(leaf_lifetime)]
        self._one_at_a_time = asyncio.Lock()
        self._ready: _Child | None = _Child(self._command)

    async def open(self) -> None:
        """Makes the folder if it is new; `CaFolderError` if it cannot be used."""
        async with self._one_at_a_time:
            await self._child()

    async def sign(self, csr: bytes, identity: Identity) -> IssuedCertificate:
        """A certificate for `identity`; `CaError` in the words of the child."""
        async with self._one_at_a_time:
            child = await self._child()
            self._ready = None
            try:
                request = {"csr": csr.decode("ascii", "replace"), "identity": str(identity)}
                answer = await asyncio.to_thread(child.ask, request)
            finally:
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

    async def _child(self) -> _Child:
        """A child that has opened the folder."""
        child = self._ready or _Child(self._command)
        self._ready = child
        try:
            await asyncio.to_thread(child.greet)
        except BaseException:
            self.close()
            raise
        return child


class _Child:
    """One process. Its methods block; `end` from another thread ends them."""

    def __init__(self, command: list[str]) -> None:
        self._greeted = False
        # A group of its own: Ctrl-C is for the node, which then ends its children. If the node dies, the
        # child reads the end of its input and ends as well.
        self._process = subprocess.Popen(  # noqa: S603 - no shell, and nothing in it comes from a peer
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
        )

    def greet(self) -> None:
        """Waits until the folder is open."""
        if not self._greeted:
            self._answer()
            self._greeted = True

    def ask(self, request: dict[str, str]) -> dict[str, Any]:
        """One request, one answer."""
        assert self._process.stdin is not None  # noqa: S101 - it was asked for above
        with contextlib.suppress(
            BrokenPipeError
        ):  # then there is no answer either, which says more
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        """Kills it if it still runs and leaves no zombie."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError, ValueError):
                    pipe.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for above
        line = self._process.stdout.readline(MAX_ANSWER)
        if not line.endswith(b"\n"):
            raise CaUnavailable("the process of the built-in CA ended without an answer")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            kind = getattr(errors, answer["error"], CaError)
            raise kind(answer["message"])
        return answer
