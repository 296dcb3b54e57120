"""A node whose mesh changes on command: `python -m bench.churn.node ROLE FOLDER HBONE APPLICATION`.

The compiled data plane in this process, as `ztunnel run` has it, without the rest of that program. Prints
`ready HOST:PORT`, then takes orders, one a line: `churn RATE` starts changing one endpoint at a time, `rest`
stops and prints how many changes were made and what CPU time the thread that makes them took.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from ztunnel.dataplane.handle import TYPE_SERVICE, TYPE_WORKLOAD, Resource
from ztunnel.dataplane.native import NativeDataPlane
from ztunnel.identity.ca.selfsigned import SelfSignedCa
from ztunnel.identity.spiffe import Identity

ENDPOINTS = 10_000
SERVICE = "default/large.default.svc.cluster.local"
PLACES = {"client": "127.0.0.1", "server": "127.0.0.2"}
# All connections of the load must share a tunnel, and still be drawn from among all endpoints: against this
# capacity the 9,999 others, of capacity 1, are drawn once in 400,000 times.
HEAVY = 2**32 - 1
# Seconds between wakes of the thread that makes the changes; each change is a call of its own. Waking costs more than a
# change (15 µs here), and a control plane that gathers for 100 ms before it pushes does not wake anybody for each.
TICK = 0.005


def workload(name: str, address: str, port: int, *, capacity: int, member: bool) -> Resource:
    """A pod that takes tunnels; `member`: of the service."""
    value = {
        "uid": name,
        "name": name,
        "namespace": "default",
        "serviceAccount": name if name in PLACES else "app",
        "workloadIps": [address],
        "protocol": "HBONE",
        "capacity": capacity,
        "services": {SERVICE: {"80": port}} if member else {},
    }
    return Resource(type_url=TYPE_WORKLOAD, name=name, value=json.dumps(value).encode())


def other(number: int, port: int) -> Resource:
    """An endpoint beside the one that is used, somewhere out of reach."""
    address = f"10.1.{number >> 8}.{number & 255}"
    return workload(f"pod-{number:05}", address, port, capacity=1, member=True)


def mesh(application: int) -> list[Resource]:
    """The service and all its endpoints."""
    hostname = SERVICE.partition("/")[2]
    service = {
        "name": "large",
        "namespace": "default",
        "hostname": hostname,
        "vips": ["/127.10.0.1"],
        "ports": {"80": application},
    }
    return [
        workload("client", PLACES["client"], 0, capacity=1, member=False),
        workload("server", PLACES["server"], application, capacity=HEAVY, member=True),
        Resource(type_url=TYPE_SERVICE, name=SERVICE, value=json.dumps(service).encode()),
        *(other(number, 8080) for number in range(ENDPOINTS - 1)),
    ]


class Churn:
    """Changes an endpoint at a time, at a rate, while it is told to."""

    def __init__(self, plane: NativeDataPlane) -> None:
        self._plane = plane
        self._running = threading.Event()
        self._changes = 0
        self._cpu = 0.0
        self._thread = threading.Thread(target=lambda: None)
        # Made before: what is measured is a change, not the writing of JSON in Python. Ports alternate, so
        # that each pass over the endpoints changes all of them again.
        self._resources = [
            other(number * 7_919 % (ENDPOINTS - 1), port)
            for port in (8081, 8080)
            for number in range(ENDPOINTS - 1)
        ]

    def start(self, rate: float) -> None:
        """Begin; `rate` changes a second."""
        self._changes, self._cpu = 0, 0.0
        self._running.set()
        self._thread = threading.Thread(target=self._run, args=(rate,), name="churn")
        self._thread.start()

    def stop(self) -> tuple[int, float]:
        """End; the number of changes and the CPU seconds of the thread that made them."""
        self._running.clear()
        self._thread.join()
        return self._changes, self._cpu

    def _run(self, rate: float) -> None:
        begin = time.monotonic()
        while self._running.is_set():
            due = int((time.monotonic() - begin) * rate)
            while self._changes < due:
                change = self._resources[self._changes % len(self._resources)]
                if rejected := self._plane.apply([change], []):
                    raise RuntimeError(str(rejected[0].reason))
                self._changes += 1
            time.sleep(TICK)
        self._cpu = time.thread_time()


def main() -> None:
    """Start, then obey until the end of the input."""
    role, folder, hbone, application = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:5])
    inbound = {"inbound": f"{PLACES['server']}:0"} if role == "server" else {}
    forward = {"listen": f"{PLACES['client']}:0", "target": f"{SERVICE.partition('/')[2]}:80"}
    settings = {
        "workload": {"name": role, "namespace": "default", "serviceAccount": role},
        "hbonePort": hbone,
        "listeners": {**inbound, "forwards": [forward] if role == "client" else []},
        "accessLog": {"format": "off", "path": str(folder / f"{role}.log")},
        "logLevel": "warn",
        # On one machine the client's address is often taken; a try that fails is work that no real node has.
        "originalSource": False,
    }
    plane = NativeDataPlane(json.dumps(settings).encode())
    identity = Identity(trust_domain="cluster.local", namespace="default", service_account=role)
    ca = SelfSignedCa.open(folder / "ca", trust_domain="cluster.local", leaf_lifetime=3600.0)
    key = plane.new_key()
    issued = ca.issue(key.csr(str(identity)), identity)
    plane.install(str(identity), key, issued.chain, issued.roots)
    if rejected := plane.apply(mesh(application), []):
        raise RuntimeError(str(rejected[0].reason))
    churn = Churn(plane)
    bound = plane.start()
    plane.mark_synced()
    print(f"ready {bound['inbound' if role == 'server' else 'forwards[0]']}", flush=True)
    for line in sys.stdin:
        match line.split():
            case ["churn", rate]:
                churn.start(float(rate))
            case ["rest"]:
                changes, cpu = churn.stop()
                print(f"made {changes} {cpu}", flush=True)
    plane.stop()


if __name__ == "__main__":
    main()
