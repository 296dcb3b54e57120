"""`/config_dump`: the mesh from Rust, and what only Python knows (spec/control.md §11).

Rust makes the text and Python passes it on, piece by piece: a mesh of 100,000 workloads is some 70 MB that nobody
ever holds. Upstream's document, and two sections more: `workloadState` also of a node with one workload, `configs`
as Envoy has it (`envoy_secrets.py`).
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from ztunnel.admin import envoy_secrets
from ztunnel.admin.messages import Answer, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ztunnel.dataplane.handle import DataPlane, Dump

# Each has a thread and some pieces of 128 KiB, and holds the mesh as it was when it began.
AT_ONCE = 2


class ConfigDump:
    """Makes dumps, a few at once."""

    def __init__(
        self,
        data_plane: DataPlane,
        sections: Mapping[str, Callable[[], bytes]],
        certificate_states: Callable[[], Mapping[str, str]],
    ) -> None:
        """`sections` are Python's own, as JSON; `certificate_states` says of identities without a certificate why."""
        self._data_plane = data_plane
        self._sections = sections
        self._certificate_states = certificate_states
        self._open = 0

    async def answer(self, query: str = "") -> Answer:
        """The dump of this moment, or that there are too many already. A mask that names secrets gets them alone."""
        if self._open >= AT_ONCE:
            return plain(503, f"{AT_ONCE} dumps are being read already; try again\n")
        self._open += 1
        try:
            # Of what belongs to the loop, now; the rest, which takes its time in a large mesh, in a thread.
            states = dict(self._certificate_states())
            if _is_for_secrets(query):
                text = await asyncio.to_thread(self._secrets, states)
                self._open -= 1
                return Answer(status=200, kind="application/json", text=text)
            dump = await asyncio.to_thread(self._begin, states)
        except BaseException:
            self._open -= 1
            raise
        return Answer(status=200, kind="application/json", body=_Text(dump, self._closed))

    def _begin(self, states: Mapping[str, str]) -> Dump:
        sections = {name: section() for name, section in self._sections.items()}
        entries = self._certificates(states)
        sections["certificates"] = _json(entries)
        sections["configs"] = _json(envoy_secrets.configs(entries))
        return self._data_plane.open_dump(sections)

    def _secrets(self, states: Mapping[str, str]) -> bytes:
        configs = envoy_secrets.configs(self._certificates(states))
        return json.dumps({"configs": configs}, ensure_ascii=False, indent=2).encode()

    def _certificates(self, states: Mapping[str, str]) -> list[dict[str, Any]]:
        return certificates(self._data_plane.dump("certificates"), states)

    def _closed(self) -> None:
        self._open -= 1


def certificates(installed: bytes, states: Mapping[str, str]) -> list[dict[str, Any]]:
    """The section's entries: what is installed (JSON), and the identities that wait for one, with the state of each."""
    entries: list[dict[str, Any]] = json.loads(installed)
    known = {entry["identity"] for entry in entries}
    entries += [
        {"identity": identity, "state": state, "certChain": [], "rootCerts": []}
        for identity, state in states.items()
        if identity not in known
    ]
    entries.sort(key=lambda entry: entry["identity"])
    return entries


def _is_for_secrets(query: str) -> bool:
    """`?mask=dynamic_active_secrets,dynamic_warming_secrets`, as istioctl asks; other parts are as whole as ever."""
    return any(
        envoy_secrets.MASKS & set(mask.split(",")) for mask in parse_qs(query).get("mask", ())
    )


def _json(section: object) -> bytes:
    return json.dumps(section, ensure_ascii=False).encode()


class _Text:
    """The body of an answer."""

    def __init__(self, dump: Dump, closed: Callable[[], None]) -> None:
        self._dump: Dump | None = dump
        self._closed = closed

    async def next_piece(self) -> bytes:
        """What Rust has written meanwhile; not waited for on the loop."""
        if self._dump is None:
            return b""
        return await asyncio.to_thread(self._dump.next_piece)

    def close(self) -> None:
        """Ends Rust's thread, and makes room for the next."""
        if self._dump is not None:
            self._dump = None
            self._closed()
