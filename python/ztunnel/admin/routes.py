"""Which request gets which answer (spec/control.md §10.1). Speaks no HTTP and owns no socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ztunnel.admin import index, levels
from ztunnel.admin.access import refusal
from ztunnel.admin.config_dump import ConfigDump
from ztunnel.admin.messages import Answer, empty, plain
from ztunnel.admin.pprof.cpu import CpuProfiles
from ztunnel.admin.pprof.heap import HeapProfiles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ztunnel.admin.levels import LogFilter
    from ztunnel.admin.messages import Request
    from ztunnel.dataplane.handle import DataPlane


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the answers are made of, and what may be done."""

    data_plane: DataPlane
    sections: Mapping[str, Callable[[], bytes]]
    """Of the dump, as JSON: `config`, `version`, `staticConfig`."""
    certificate_states: Callable[[], Mapping[str, str]]
    """By identity, of those that have no certificate: `Initializing`, `Unavailable: …`."""
    log: LogFilter
    quit: Callable[[], None]


class Routes:
    """All endpoints."""

    def __init__(self, sources: Sources) -> None:
        self._log = sources.log
        self._quit = sources.quit
        self._dump = ConfigDump(sources.data_plane, sources.sections, sources.certificate_states)
        self._cpu = CpuProfiles(sources.data_plane)
        self._heap = HeapProfiles(sources.data_plane)

    async def answer(self, request: Request) -> Answer:
        """The answer to one request."""
        refused = refusal(request)
        if refused is not None:
            return refused
        match request.path:
            case "/":
                return index.answer()
            case "/config_dump":
                # The text of a HEAD would be made to be thrown away.
                return JSON if request.method == "HEAD" else await self._dump.answer(request.query)
            case "/logging":
                return levels.answer(request, self._log)
            case "/quitquitquit":
                return self._end(request)
            case "/debug/pprof/profile":
                return await self._cpu.answer(request)
            case "/debug/pprof/heap":
                return await self._heap.answer(request)
            case "/debug/pprof/heap/profiling":
                return self._heap.profiling(request)
            case _:
                return empty(404)

    def _end(self, request: Request) -> Answer:
        if request.method != "POST":
            return empty(405)
        self._quit()
        return plain(200, "shutdown now\n")


JSON = Answer(status=200, kind="application/json")
