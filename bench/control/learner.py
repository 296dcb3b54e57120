"""The control side of a node and its data plane, without the rest of the program.

`python -m bench.control.learner FOLDER PORT` learns from the control plane on that port of the loopback until its input
ends, over TLS as `ztunnel proxy` does. Prints `ready` when the first sync is complete. Measured from outside, by its CPU
clock; `profile PATH` on its input begins a profile of the thread that turns the event loop, `rest` writes it. Counterpart:
`istiod.py`.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import sys
from pathlib import Path

from ztunnel.app import ads_stream
from ztunnel.clock import SystemClock
from ztunnel.dataplane.native import NativeDataPlane
from ztunnel.endpoint import Endpoint, RootFile, TokenText
from ztunnel.settings import XdsNode, XdsSettings
from ztunnel.xds.client import AdsClient

NODE = XdsNode(pod="ztunnel", namespace="istio-system", instance_ip="127.0.0.1", name="node-near")


async def learn(folder: Path, port: int) -> None:
    """Until the input ends."""
    settings = {
        "workload": {"name": "near", "namespace": "default", "serviceAccount": "near"},
        "accessLog": {"format": "off", "path": str(folder / "learner.log")},
        "logLevel": "warn",
    }
    plane = NativeDataPlane(json.dumps(settings).encode())
    plane.start()
    endpoint = Endpoint(
        host="127.0.0.1",
        port=port,
        roots=RootFile(folder / "root.pem"),
        token=TokenText("t"),
        cluster_id="Kubernetes",
    )
    opened = asyncio.Event()
    client = AdsClient(
        XdsSettings(endpoint=endpoint, node=NODE),
        data_plane=plane,
        clock=SystemClock(),
        connect=lambda: ads_stream(endpoint),
        opened=opened.set,
    )
    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(client.run())
            await opened.wait()
            print("ready", flush=True)
            await _obey()
            running.cancel()
    finally:
        plane.stop()


async def _obey() -> None:
    """Orders, one a line."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    profile, path = cProfile.Profile(), ""
    while words := (await reader.readline()).decode().split():
        match words:
            case ["profile", path]:
                profile.enable()
            case ["rest"]:
                profile.disable()
                profile.dump_stats(path)
                print("written", flush=True)


if __name__ == "__main__":
    asyncio.run(learn(Path(sys.argv[1]), int(sys.argv[2])))
