"""The load generator (bench/load, Rust) as seen from here: start it in a namespace, read its line."""

from __future__ import annotations

import contextlib
import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.macro import mesh

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.macro.namespaces import Bed

Result = dict[str, Any]
# The program gives up by itself, fifteen seconds after its time.
GRACE = 30.0


@dataclass(frozen=True, kw_only=True)
class Load:
    """Both ends of the workloads."""

    program: Path
    bed: Bed

    @contextlib.contextmanager
    def server(self) -> Iterator[None]:
        """The application, on the far side."""
        words = [str(self.program), "serve", "--listen", f"0.0.0.0:{mesh.APPLICATION_PORT}"]
        process = self.bed.far.call(subprocess.Popen, words, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            if b"ready" not in process.stdout.readline():
                raise RuntimeError(f"{words} did not start")
            yield
        finally:
            process.kill()
            process.communicate()

    def words(
        self,
        verb: str,
        *,
        to: str,
        marked: bool,
        port: int = mesh.APPLICATION_PORT,
        **options: object,
    ) -> list[str]:
        """A command line. `marked` goes past the capture rules; True is a flag, None and False are left out."""
        words = [str(self.program), verb, "--to", f"{to}:{port}"]
        if marked:
            words += ["--mark", str(mesh.MARK)]
        for name, value in options.items():
            if value is None or value is False:
                continue
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        return words

    @contextlib.contextmanager
    def client(self, words: list[str]) -> Iterator[subprocess.Popen[str]]:
        """A client on the near side, with pipes; gone afterwards."""
        pipe = subprocess.PIPE
        process: subprocess.Popen[str] = self.bed.near.call(
            subprocess.Popen, words, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def run(self, words: list[str], seconds: float) -> Result:
        """One client, to its end."""
        with self.client(words) as process:
            return result(process, seconds + GRACE)


def result(process: subprocess.Popen[str], within: float) -> Result:
    """The last line of a client that ends by itself."""
    out, err = process.communicate(timeout=within)
    if process.returncode:
        raise RuntimeError(err.strip().splitlines()[0] if err else f"exit {process.returncode}")
    found: Result = json.loads(out.strip().splitlines()[-1])
    return found


def line(process: subprocess.Popen[str]) -> Result:
    """The next line of a client that goes on. It gives up by itself, so this ends."""
    assert process.stdout is not None
    text = process.stdout.readline()
    if not text:
        _, err = process.communicate(timeout=GRACE)
        raise RuntimeError(err.strip().splitlines()[0] if err else "the load generator ended")
    found: Result = json.loads(text)
    return found


def tell(process: subprocess.Popen[str], text: str) -> None:
    """A line to a client that asks."""
    assert process.stdin is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()
