"""A child process of the built-in authority, as its parent sees it; `helper.py` is the other side.

Loads little, so that `ztunnel run` can start one before everything else: the child's imports, the longest
part of a node's start, then go on beside the node's own.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import Any

from ztunnel import errors
from ztunnel.errors import CaError, CaUnavailable

# An answer has about 2 KiB, with each further root 1 KiB more (`roots.py` bounds their number).
MAX_ANSWER = 8 * 1024 * 1024


class Child:
    """One process. Its methods block; `end` from another thread ends them."""

    def __init__(self) -> None:
        self._is_open = False
        # -P: modules come from where the interpreter was installed, never from the current directory,
        # whoever may write there.
        command = [
            sys.executable,
            "-P",
            "-c",
            "from ztunnel.identity.ca.helper import main; main()",
        ]
        # A group of its own: Ctrl-C is for the node, which then ends its children. If the node dies, the
        # child reads the end of its input and ends as well.
        self._process = subprocess.Popen(  # noqa: S603 - no shell, and nothing in it comes from a peer
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
        )

    def open(self, folder: dict[str, object]) -> None:
        """Opens the CA folder; does nothing if it is open."""
        if not self._is_open:
            self.ask(folder)
            self._is_open = True

    def ask(self, request: dict[str, object]) -> dict[str, Any]:
        """One request, one answer; `CaError` in the words of the child."""
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
