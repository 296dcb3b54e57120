"""`/debug/pprof/profile`: both halves of the process for some seconds, as one profile.

Rust's threads are sampled by Rust, Python's by Python; no thread is in it twice. One profile at a time: two would
see each other.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ztunnel.admin.messages import Answer, plain
from ztunnel.admin.pprof.message import Message, read_mappings
from ztunnel.admin.pprof.query import ProfileQuery
from ztunnel.admin.pprof.stacks import PythonStacks

if TYPE_CHECKING:
    from ztunnel.admin.messages import Request
    from ztunnel.dataplane.handle import CpuProfile, DataPlane

PROTOBUF = "application/octet-stream"
MAPS = Path("/proc/self/maps")


class CpuProfiles:
    """Takes profiles, one after the other."""

    def __init__(self, data_plane: DataPlane) -> None:
        self._data_plane = data_plane
        self._busy = False

    async def answer(self, request: Request) -> Answer:
        """The profile of the seconds from now on; ends early, and gives all back, when the node ends or its client hangs up."""
        try:
            query = ProfileQuery.read(request.query)
        except ValueError as error:
            return plain(400, f"{error}\n")
        if request.method == "HEAD":
            # What it would say is not worth the time.
            return Answer(status=200, kind=PROTOBUF)
        if self._busy:
            return plain(503, "a profile is being taken already; try again when it is over\n")
        self._busy = True
        try:
            return Answer(status=200, kind=PROTOBUF, text=await self._take(query))
        except OSError as error:
            # Another data plane of this process profiles it, or a program around us has SIGPROF for itself.
            return plain(503, f"no profile can be taken now: {error}\n")
        finally:
            self._busy = False

    async def _take(self, query: ProfileQuery) -> bytes:
        began = time.time()
        python = PythonStacks(query.period)
        try:
            rust = self._data_plane.start_profile(query.period, sorted(python.threads))
            try:
                await asyncio.sleep(query.seconds)
            except BaseException:
                # Its thread ends by itself once told; nobody reads what it found.
                await asyncio.to_thread(rust.finish)
                raise
        finally:
            await asyncio.to_thread(python.end)
        took = time.time() - began
        return await asyncio.to_thread(_put_together, query, rust, python, began, took)


def _put_together(
    query: ProfileQuery, rust: CpuProfile, python: PythonStacks, began: float, took: float
) -> bytes:
    nanoseconds = round(query.period * 1e9)
    stacks, functions, lost = rust.finish()
    message = Message(
        counted=[("samples", "count"), ("cpu", "nanoseconds")],
        period=(("cpu", "nanoseconds"), nanoseconds),
        mappings=read_mappings(MAPS.read_text()),
    )
    for thread, name, periods, addresses in stacks:
        # A thread of Python's that came later than the list of those to be left out.
        if thread not in python.threads:
            places = [message.address(at, functions.get(at, ())) for at in addresses]
            labels = {"thread": name, "side": "rust"}
            message.sample(places, (periods, periods * nanoseconds), labels)
    for (name, stack), (looks, spent) in python.found.items():
        places = [message.place((code.co_qualname, code.co_filename, line)) for code, line in stack]
        message.sample(places, (looks, spent), {"thread": name, "side": "python"})
    if lost or python.lost:
        message.comment(f"samples that were not kept: {lost} of Rust, {python.lost} of Python")
    return message.encode(began=began, took=took)
