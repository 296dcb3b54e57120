"""A process of ours that a benchmark starts: says when it is ready, takes orders, ends with its starter."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.workloads import Address

ROOT = Path(__file__).resolve().parents[1]


class Child:
    """`python -m COMMAND`, which begins with a line `ready [HOST:PORT ...]`."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        words = self.line().split()
        if words[:1] != ["ready"]:
            self.end()
            raise RuntimeError(f"{command} did not start: {words}")
        self.addresses = [address(word) for word in words[1:]]

    @property
    def address(self) -> Address:
        """The first one."""
        return self.addresses[0]

    def tell(self, order: str) -> None:
        """Give an order."""
        assert self.process.stdin is not None
        print(order, file=self.process.stdin, flush=True)

    def line(self) -> str:
        """What it says next."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def result(self, within: float) -> str:
        """End its input, wait for its own end, and give the last line."""
        out, _ = self.process.communicate(timeout=within)
        if self.process.returncode:
            raise RuntimeError(f"{self.process.args!r} ended with {self.process.returncode}")
        return out.strip().rpartition("\n")[2]

    def cpu(self) -> float:
        """CPU seconds so far: `clock_getcpuclockid(3)`."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def end(self) -> None:
        """Gone afterwards."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def address(text: str) -> Address:
    """From `HOST:PORT`."""
    host, _, port = text.rpartition(":")
    return host, int(port)
