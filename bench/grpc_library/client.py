"""One library's client: imports, opens a stream, takes a large message and many small ones, and says what it cost.

`python client.py LIBRARY PORT ROOTS UPDATES`; prints one JSON object. The event loop's longest stall is what a ticker of
1 ms saw. Nothing is decoded: that is the data plane's, whichever library brings the bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
ACK = b"\x12\x2atype.googleapis.com/istio.workload.Address2\x051234x"
TICK = 0.001
MIB = 1024 * 1024


def resident(field: str = "VmRSS") -> float:
    """MiB, as the kernel counts them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def forget_peak() -> None:
    """`VmHWM` begins again at what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


@contextlib.asynccontextmanager
async def grpclib_stream(port: int, roots: str) -> AsyncIterator[Any]:
    """As the package has it."""
    from ztunnel.endpoint import Endpoint, RootFile, TokenText
    from ztunnel.wire.duplex import Duplex

    endpoint = Endpoint(
        host="127.0.0.1",
        port=port,
        roots=RootFile(Path(roots)),
        token=TokenText("t"),
        cluster_id="c",
    )
    async with Duplex(endpoint, METHOD, purpose="XDS") as stream:
        yield stream


class GrpcioStream:
    """The same two verbs on a call of `grpc.aio`."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def send(self, message: bytes) -> None:
        """Sends one."""
        await self._call.write(message)

    async def receive(self) -> bytes:
        """Takes one."""
        message: bytes = await self._call.read()
        return message


@contextlib.asynccontextmanager
async def grpcio_stream(port: int, roots: str) -> AsyncIterator[Any]:
    """As it would have to be set up for this job."""
    # Not by `import`: the project's own environment, in which this is checked, has none.
    grpc: Any = importlib.import_module("grpc")
    aio: Any = importlib.import_module("grpc.aio")
    options = [
        ("grpc.max_receive_message_length", 200 * MIB),
        ("grpc.enable_http_proxy", 0),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    trusted = Path(roots).read_bytes()  # noqa: ASYNC240 - a small file, and nothing else runs
    credentials = grpc.ssl_channel_credentials(trusted)
    async with aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        metadata = (("authorization", "Bearer t"), ("clusterid", "c"))
        call = channel.stream_stream(METHOD)(metadata=metadata)
        yield GrpcioStream(call)
        call.cancel()


async def tick(stalls: list[float]) -> None:
    """Writes down by how much each wait was longer than asked for."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(TICK)
        stalls.append(time.perf_counter() - began - TICK)


async def measure(library: str, port: int, roots: str, updates: int) -> dict[str, float]:
    """One life of a client."""
    found: dict[str, float] = {"before_mib": resident()}
    began = time.perf_counter()
    # The rest of either library comes with its first use.
    if library == "grpclib":
        import ztunnel.wire.duplex  # noqa: F401
    else:
        importlib.import_module("grpc.aio")
    found["import_ms"] = (time.perf_counter() - began) * 1000
    make = grpclib_stream if library == "grpclib" else grpcio_stream
    stalls: list[float] = []
    # One connects before its first write, the other at it.
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group, make(port, roots) as stream:
        ticking = group.create_task(tick(stalls))
        await stream.send(ACK)
        found["request_sent_ms"] = (time.perf_counter() - began) * 1000
        found["stream_mib"] = resident() - found["before_mib"]
        stalls.clear()
        forget_peak()
        base = resident()
        began, cpu = time.perf_counter(), time.process_time()
        message = await stream.receive()
        found["large_wall_ms"] = (time.perf_counter() - began) * 1000
        found["large_cpu_ms"] = (time.process_time() - cpu) * 1000
        found["large_bytes"] = len(message)
        found["large_peak_mib"] = resident("VmHWM") - base
        await asyncio.sleep(2 * TICK)
        found["large_stall_ms"] = max(stalls) * 1000
        del message
        found["after_mib"] = resident() - found["before_mib"]
        # It costs more than a small message does.
        ticking.cancel()
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(updates):
            await stream.send(ACK)
            await stream.receive()
        found["update_wall_us"] = (time.perf_counter() - began) / updates * 1e6
        found["update_cpu_us"] = (time.process_time() - cpu) / updates * 1e6
    return found


if __name__ == "__main__":
    _, which, to, trusted, times = sys.argv
    print(json.dumps(asyncio.run(measure(which, int(to), trusted, int(times)))))
