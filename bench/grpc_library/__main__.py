"""`python -m bench.grpc_library --grpcio PYTHON`: both libraries in turns, medians as a table.

PYTHON is an interpreter whose environment has grpcio, which this project's has not:
`python -m venv /somewhere && /somewhere/bin/pip install grpcio`.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ztunnel.testing.istio_ca import Authority
from ztunnel.testing.istiod import ADDRESS, mesh
from ztunnel.wire.discovery import WireResource, WireResponse

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DEADLINE = 120.0
ROWS = (
    ("import_ms", "import, ms"),
    ("request_sent_ms", "first request sent (with connecting), ms"),
    ("stream_mib", "resident with an open stream, MiB more than asyncio alone"),
    ("large_wall_ms", "large message, wall ms"),
    ("large_cpu_ms", "large message, CPU ms"),
    ("large_stall_ms", "large message, longest stall of the event loop, ms"),
    ("large_peak_mib", "large message, peak, MiB more than before"),
    ("after_mib", "resident after it, MiB more than asyncio alone"),
    ("update_wall_us", "small message and its ACK, wall us"),
    ("update_cpu_us", "small message and its ACK, CPU us"),
)


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(prog="bench.grpc_library", description=__doc__)
    parser.add_argument(
        "--grpcio", required=True, metavar="PYTHON", help="an interpreter that has it"
    )
    parser.add_argument("--resources", type=int, default=100_000)
    parser.add_argument("--updates", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"grpclib": [], "grpcio": []}
    interpreters = {"grpclib": sys.executable, "grpcio": chosen.grpcio}
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), chosen.resources)
        with serving(chosen.grpcio, Path(folder), chosen.updates) as port:
            for number in range(chosen.rounds):
                # Turn about, so that neither is always first.
                for library in sorted(found, reverse=bool(number % 2)):
                    run = measure(
                        interpreters[library], library, port, Path(folder), chosen.updates
                    )
                    found[library].append(run)
    size = found["grpclib"][0]["large_bytes"] / 1024 / 1024
    print(f"large: {chosen.resources} resources, {size:.1f} MiB; medians of {chosen.rounds}\n")
    print("| | grpclib | grpcio |\n|---|---|---|")
    for key, title in ROWS:
        values = (statistics.median(run[key] for run in found[name]) for name in found)
        print(f"| {title} | " + " | ".join(f"{value:.1f}" for value in values) + " |")


def write_files(folder: Path, resources: int) -> None:
    """What the server shows and says."""
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    (folder / "roots.pem").write_text(authority.pem)
    name = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    (folder / "server.pem").write_text(authority.sign(key.public_key(), [name]))
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "key.pem").write_bytes(private)
    for file, count in (("large", resources), ("small", 1)):
        made = [workload(i) for i in range(count)]
        response = WireResponse(
            type_url=ADDRESS, nonce="2026-11-22T22:40:12Z/1", resources=made, version="1"
        )
        (folder / file).write_bytes(response.encode())


def workload(number: int) -> WireResource:
    """One pod of a large mesh, in as many bytes as istiod needs for it."""
    services = {f"default/service-{number % 5000}.default.svc.cluster.local": {80: 8080}}
    address = str(ipaddress.ip_address(0x0A000000 + number))
    pod = mesh.workload(
        f"web-{number:06}-7d4b9c", ip=address, node=f"node-{number % 1000}", services=services
    )
    return pod.wire(aliases=False)


@contextlib.contextmanager
def serving(python: str, folder: Path, updates: int) -> Iterator[int]:
    """A server of its own, on a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    files = [str(folder / name) for name in ("server.pem", "key.pem", "large", "small")]
    command = [python, str(HERE / "server.py"), str(port), *files, str(updates)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            yield port
        finally:
            server.kill()


def measure(python: str, library: str, port: int, folder: Path, updates: int) -> dict[str, float]:
    """One client, in a process of its own."""
    command = [
        python,
        str(HERE / "client.py"),
        library,
        str(port),
        str(folder / "roots.pem"),
        str(updates),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=DEADLINE, env=environment
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    main()
