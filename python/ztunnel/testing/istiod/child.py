"""A fake istiod in a process of its own, for tests that kill it with -9 or stop it in the middle of a word.

    with ChildIstiod(tmp_path) as istiod:
        istiod.put(mesh.workload("web", ip="10.0.0.7"))
        istiod.kill()
        istiod.start()   # the same port, the same root, the same cluster

The test holds the cluster; the process is told of it. Counterpart: `__main__.py`, which is that process.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import ztunnel
from ztunnel.testing.istio_ca import Authority
from ztunnel.testing.istiod.environment import environment
from ztunnel.testing.istiod.mounts import Mounts
from ztunnel.testing.istiod.observed import DEADLINE, NotSeenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ztunnel.testing.istiod.resources import Resource

# Starting an interpreter on a busy machine takes its time.
START = 60.0
# Lines that it has written; a test that runs for hours must not fill the memory.
REMEMBERED = 100_000


class ChildIstiod:
    """Runs while its `with` lasts, but for what the test does to it."""

    def __init__(self, folder: Path, *, host: str = "127.0.0.1") -> None:
        self.host, self.port = host, 0
        self.authority = Authority()
        self.seen: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        """What it has told of its streams, over all its lives, in order."""
        self._folder = folder
        self._tokens: dict[str, list[str]] = {}
        self._resources: dict[tuple[str, str], Resource] = {}
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Run."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Run no longer."""
        self.kill()

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        """Run, again if it was killed; returns when it listens."""
        state = self._folder / "istiod.json"
        state.write_text(json.dumps(self._state()))
        package = str(Path(ztunnel.__file__).parent.parent)
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "ztunnel.testing.istiod", str(state)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        before = len(self.seen)
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        ready = self.wait_for(lambda line: "listening" in line, "it listens", START, after=before)
        self.port = int(ready["listening"])

    def kill(self) -> None:
        """SIGKILL: no goodbye to anybody."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait(DEADLINE)
        if self._reader is not None:
            self._reader.join(DEADLINE)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, the kernel takes new ones, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def put(self, *resources: Resource) -> None:
        """Resources come or change, in one event."""
        for each in resources:
            self._resources[each.type_url, each.name] = each
        self._tell({"put": [_written(each) for each in resources]})

    def remove(self, *resources: Resource) -> None:
        """They go, in one event."""
        for each in resources:
            self._resources.pop((each.type_url, each.name), None)
        self._tell({"remove": [[each.type_url, each.name] for each in resources]})

    def environment(
        self,
        pod: str = "ztunnel",
        *,
        namespace: str = "istio-system",
        account: str = "ztunnel",
        **more: str,
    ) -> dict[str, str]:
        """What a proxy in this pod must be told, with a token of its own."""
        token = f"child.{pod}.{len(self._tokens)}"
        self._tokens[token] = [namespace, account, pod]
        self._tell({"token": [token, namespace, account, pod]})
        mounts = Mounts(self._folder / pod, roots=self.authority.pem, token=token)
        return environment(
            self.address, mounts, pod=pod, namespace=namespace, account=account, **more
        )

    def wait_for(
        self,
        fits: Callable[[dict[str, Any]], object],
        what: str,
        within: float = DEADLINE,
        *,
        after: int = 0,
    ) -> dict[str, Any]:
        """The first line from the number `after` on that fits; `NotSeenError` after `within` seconds."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found.extend(line for line in list(self.seen)[after:] if fits(line))
            return bool(found)

        with self._changed:
            if not self._changed.wait_for(look, within):
                last = list(self.seen)[-5:]
                raise NotSeenError(f"not within {within:g} s: {what}; last seen: {last}")
        return found[0]

    def _state(self) -> dict[str, Any]:
        return {
            "host": self.host,
            "port": self.port,
            "authority": self.authority.dump(),
            "tokens": self._tokens,
            "resources": [_written(each) for each in self._resources.values()],
        }

    def _tell(self, order: dict[str, Any]) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None  # noqa: S101 - as it was started
        for text in process.stdout:
            with self._changed:
                self.seen.append(json.loads(text))
                self._changed.notify_all()


def _written(resource: Resource) -> dict[str, Any]:
    value = None if resource.value is None else base64.b64encode(resource.value).decode()
    return {
        "type_url": resource.type_url,
        "name": resource.name,
        "version": resource.version,
        "value": value,
    }
