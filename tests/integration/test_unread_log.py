"""A node whose log nobody reads: the pipe is full from the start (spec/reliability.md F23).

What becomes of the lines is `tests/unit/telemetry/test_output.py`'s, and of Rust's `rust/proxy/src/telemetry/log`'s.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.support.http import ask
from tests.support.nodes import DEADLINE, START_DEADLINE, Mesh, eventually, python_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.nodes import Address


@contextmanager
def unheard(folder: Path, address: str, mesh: Mesh) -> Iterator[subprocess.Popen[bytes]]:
    """A node that can write no line."""
    node = {
        "workload": "default/web",
        "mesh": str(mesh.path),
        "listen": {"inbound": f"{address}:15008", "admin": f"{address}:15000"},
        "ca": {"directory": str(folder / "ca"), "leafLifetime": "4s"},
        "drain": "1s",
    }
    file = folder / "node.yaml"
    file.write_text(json.dumps({"node": node}))
    reading, writing = os.pipe()
    try:
        fill(writing)
        process = subprocess.Popen(
            [sys.executable, "-m", "ztunnel", "run", "--log-level", "debug", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=writing,
            env={**os.environ, "PYTHONPATH": python_path()},
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait(DEADLINE)
    finally:
        os.close(reading)
        os.close(writing)


def fill(writing: int) -> None:
    poll = select.poll()
    poll.register(writing, select.POLLOUT)
    while poll.poll(0):
        os.write(writing, b"x" * select.PIPE_BUF)


def serial(admin: Address) -> str | None:
    """Of the node's certificate; None without one, and while nobody answers."""
    try:
        dump: dict[str, Any] = json.loads(ask(admin, "GET", "/config_dump").body)
    except ConnectionError:
        return None
    chains = [chain for each in dump["certificates"] for chain in each["certChain"]]
    return str(chains[0]["serialNumber"]) if chains else None


def test_a_node_whose_log_nobody_reads_renews_its_certificate_answers_and_ends(
    tmp_path: Path,
) -> None:
    with Mesh(tmp_path, network="127.42") as mesh:
        address = mesh.workload("web")
        mesh.write()
        admin = address, 15000
        with unheard(tmp_path, address, mesh) as process:
            eventually(lambda: serial(admin), "a certificate", within=START_DEADLINE)
            first = serial(admin)
            eventually(lambda: serial(admin) != first, "another one", within=START_DEADLINE)
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE) == 0
