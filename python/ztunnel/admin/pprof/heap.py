"""`/debug/pprof/heap` and `/debug/pprof/heap/profiling`: what holds memory (spec/control.md §10.1).

Python's allocations by the place that made them, once somebody has asked for that: it costs memory and time. Rust's are
one number, the C library's: its allocator keeps no record of who asked (docs/development/heap-profiles.md says why we have
no other, and how to look from outside).
"""

from __future__ import annotations

import asyncio
import gzip
import time
import tracemalloc
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from ztunnel.admin.messages import Answer, empty, plain
from ztunnel.admin.pprof.message import Message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ztunnel.admin.messages import Request
    from ztunnel.dataplane.handle import DataPlane

GZIP = "application/octet-stream"
# Frames of each allocation: enough to see who called, and some hundred bytes for each.
FRAMES = 16
# Python asks the C library for larger ones, and has arenas of its own for the others (Objects/obmalloc.c).
LARGEST_SMALL = 512


class HeapProfiles:
    """Says what there is, and turns tracing on and off."""

    def __init__(self, data_plane: DataPlane) -> None:
        self._data_plane = data_plane
        self._busy = False

    async def answer(self, request: Request) -> Answer:
        """What is held now, if somebody has turned tracing on before."""
        figures = self._data_plane.allocator_figures()
        if not tracemalloc.is_tracing():
            return plain(500, INACTIVE + _as_text(figures))
        if request.method == "HEAD":
            return Answer(status=200, kind=GZIP)
        if self._busy:
            return plain(503, "a heap profile is being taken already; try again\n")
        self._busy = True
        try:
            text = await asyncio.to_thread(_profile, figures)
        finally:
            self._busy = False
        return Answer(status=200, kind=GZIP, text=text)

    def profiling(self, request: Request) -> Answer:
        """Shows or changes whether allocations are traced."""
        if request.method not in ("GET", "POST"):
            return empty(405)
        wish = dict(parse_qsl(request.query, keep_blank_values=True)).get("activate")
        match wish:
            case None:
                pass
            case "true":
                if not tracemalloc.is_tracing():
                    tracemalloc.start(FRAMES)
            case "false":
                tracemalloc.stop()
            case _:
                return plain(400, f"activate must be true or false: {wish[:40]}\n")
        active = "true" if tracemalloc.is_tracing() else "false"
        return plain(200, f"heap profiling active: {active}\n")


def _profile(figures: Mapping[str, int]) -> bytes:
    traces = tracemalloc.take_snapshot().traces
    message = Message(counted=[("inuse_objects", "count"), ("inuse_space", "bytes")])
    summed: dict[tuple[tuple[str, int], ...], list[int]] = {}
    of_c_library = 0
    for trace in traces:
        # The innermost first, as pprof has it; tracemalloc has it last.
        stack = tuple((frame.filename, frame.lineno) for frame in reversed(trace.traceback))
        held = summed.setdefault(stack, [0, 0])
        held[0] += 1
        held[1] += trace.size
        if trace.size > LARGEST_SMALL:
            of_c_library += trace.size
    for stack, held in summed.items():
        # There are no names of functions in it: a line says as much.
        places = [message.place((f"{file}:{line}", file, line)) for file, line in stack]
        message.sample(places, held, {"side": "python"})
    if figures:
        rest = max(0, figures["used"] + figures["mapped"] - of_c_library)
        place = message.place(("[allocated by native code, or before tracing began]", "", 0))
        message.sample([place], (1, rest), {"side": "rust"})
    for line in _as_text(figures).splitlines():
        message.comment(line)
    return gzip.compress(message.encode(began=time.time()), mtime=0)


def _as_text(figures: Mapping[str, int]) -> str:
    return "".join(f"{WORDS[name]}: {figures[name]} bytes\n" for name in WORDS if name in figures)


INACTIVE = (
    "heap profiling is not active; "
    "POST /debug/pprof/heap/profiling?activate=true traces what Python allocates from then on, which costs memory "
    "and time until activate=false. Without it:\n"
)
WORDS = {
    "used": "malloc, in use",
    "mapped": "malloc, in use in large blocks",
    "free": "malloc, kept for later",
    "arenas": "malloc, arenas in all",
}
