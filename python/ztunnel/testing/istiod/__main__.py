"""`python -m ztunnel.testing.istiod STATE`: a fake istiod as a process, told by a file and then by its input.

A line of JSON each way. In: `put`, `remove`, `token`. Out: `listening`, then what each stream asked for and was told.
Ends with its input. Counterpart: `child.py`, which starts it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

from ztunnel.testing.istio_ca import Authority
from ztunnel.testing.istiod.callers import Caller
from ztunnel.testing.istiod.observed import Asked, Observed, Said, Stream
from ztunnel.testing.istiod.resources import Resource, received
from ztunnel.testing.istiod.server import FakeIstiod
from ztunnel.wire.discovery import WireResource


class _Loud(Observed):
    """Says at once what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[int, int] = {}

    def changed(self) -> None:
        super().changed()
        for stream in self.streams:
            self._say(stream)

    def _say(self, stream: Stream) -> None:
        known = self._said.get(stream.number, 0)
        if known < 0:
            return
        history = list(stream.history)
        for said in history[known:]:
            _say({"stream": stream.number, "name": stream.name, **_told(said)})
        self._said[stream.number] = len(history)
        if stream.ended is not None:
            _say({"stream": stream.number, "ended": stream.ended})
            self._said[stream.number] = -1


def main() -> None:
    """Serve until the input ends."""
    asyncio.run(_serve(json.loads(Path(sys.argv[1]).read_text())))


async def _serve(state: dict[str, Any]) -> None:
    istiod = FakeIstiod(host=state["host"], port=state["port"])
    istiod.observed = _Loud()
    authority = Authority.load(state["authority"])
    istiod.certificates.trusted = [authority]
    istiod.certificates.sign_with(authority)
    for token, (namespace, account, pod) in state["tokens"].items():
        _accept(istiod, token, namespace, account, pod)
    istiod.put(*map(_read, state["resources"]))
    async with istiod:
        _say({"listening": istiod.port.port})
        reader = asyncio.StreamReader(limit=1 << 30)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            _obey(istiod, json.loads(line))


def _obey(istiod: FakeIstiod, order: dict[str, Any]) -> None:
    if "put" in order:
        istiod.put(*map(_read, order["put"]))
    if "remove" in order:
        istiod.change(remove=[(type_url, name) for type_url, name in order["remove"]])
    if "token" in order:
        _accept(istiod, *order["token"])


def _accept(istiod: FakeIstiod, token: str, namespace: str, account: str, pod: str) -> None:
    istiod.tokens.accept(token, Caller(namespace=namespace, account=account, pod=pod))


def _read(written: dict[str, Any]) -> Resource:
    value = None if written["value"] is None else base64.b64decode(written["value"])
    found = WireResource(name=written["name"], version=written["version"], value=value)
    return received(found, written["type_url"])


def _told(said: Said) -> dict[str, Any]:
    if isinstance(said, Asked):
        request = said.request
        return {
            "asked": request.type_url,
            "verdict": said.verdict.name,
            "held": len(request.initial_versions),
            "error": request.error,
        }
    return {
        "told": said.type_url,
        "resources": [name for name, _ in said.versions],
        "removed": list(said.removed),
    }


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
