"""A name server for tests: one address for every name, or none (RFC 1035).

    with NameServer(mesh.address(), "127.1.0.9") as names:
        Node(mesh, "client", resolver={"servers": [names.address], "config": "/dev/null"})

Counterpart: the proxy's resolver, which asks the system's servers (spec/dataplane.md §10.8).
"""

from __future__ import annotations

import socket
import struct
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

A, AAAA = 1, 28
NO_ERROR, NO_SUCH_NAME = 0, 3


class NameServer:
    """Answers A with one address, all else with nothing; `code` goes into every answer (RFC 1035 §4)."""

    def __init__(self, host: str, answer: str | None, code: int = NO_ERROR) -> None:
        """On a free port of `host`."""
        self.questions: list[tuple[str, int]] = []
        self._answer, self._code = answer, code
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self.address = "{}:{}".format(*self._socket.getsockname())
        self._thread = threading.Thread(target=self._serve, name="name server")

    def __enter__(self) -> Self:
        """Answer, on a thread of its own."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        """Answer no longer."""
        # A datagram of no bytes is the end.
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            if not query:
                return
            self._socket.sendto(self._reply(query), client)

    def _reply(self, query: bytes) -> bytes:
        labels, at = [], 12
        while length := query[at]:
            labels.append(query[at + 1 : at + 1 + length].decode())
            at += 1 + length
        (kind,) = struct.unpack("!H", query[at + 1 : at + 3])
        question = query[12 : at + 5]
        self.questions.append((".".join(labels) + ".", kind))
        found = kind == A and self._answer is not None
        head = struct.pack(
            "!HHHHHH", *struct.unpack("!H", query[:2]), 0x8180 | self._code, 1, int(found), 0, 0
        )
        if not found or self._answer is None:
            return head + question
        # The name by its place in the question; IN, an hour.
        record = struct.pack("!HHHIH", 0xC00C, A, 1, 3600, 4) + socket.inet_aton(self._answer)
        return head + question + record
