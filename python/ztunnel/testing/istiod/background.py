"""`FakeIstiod` for tests without an event loop: it runs in a thread of its own, and every call waits for its end.

    with BackgroundIstiod(tmp_path) as istiod:
        istiod.put(mesh.workload("web", ip="10.0.0.7"))
        proxy = start_my_proxy(env=istiod.environment())
        istiod.synced()

What has no method here is reached by `call`. Counterparts: `server.py`, which it runs, and `child.py`, a process.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ztunnel.testing.istiod.environment import environment
from ztunnel.testing.istiod.mounts import Mounts
from ztunnel.testing.istiod.observed import DEADLINE
from ztunnel.testing.istiod.server import FakeIstiod

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from grpclib import Status

    from ztunnel.testing.istiod.faults import Fault
    from ztunnel.testing.istiod.observed import Stream
    from ztunnel.testing.istiod.resources import Resource

T = TypeVar("T")

# Beyond the deadline that the call itself has: for the thread to come to it.
MARGIN = 10.0


class BackgroundIstiod:
    """Serves while its `with` lasts."""

    def __init__(self, folder: Path, **options: Any) -> None:
        """`folder` is for the files that proxies read; `options` are `FakeIstiod`'s."""
        self.server = FakeIstiod(**options)
        """Belongs to the thread: look at it, and change it by `call`."""
        self.folder = folder
        self.mounts: dict[str, Mounts] = {}
        """Of each pod that `environment` was asked for."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="istiod", daemon=True)

    def __enter__(self) -> Self:
        """Serve."""
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Serve no longer."""
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(MARGIN)
        self._loop.close()

    def call(self, do: Callable[[FakeIstiod], T]) -> T:
        """What `do` gives, called with the server in its thread."""

        async def doing(server: FakeIstiod) -> T:
            return do(server)

        return self.wait(doing, 0.0)

    def wait(
        self, until: Callable[[FakeIstiod], Coroutine[Any, Any, T]], within: float = DEADLINE
    ) -> T:
        """What the coroutine gives, run with the server in its thread; it keeps the deadline `within` itself."""
        asked = asyncio.run_coroutine_threadsafe(until(self.server), self._loop)
        try:
            return asked.result(within + MARGIN)
        except TimeoutError:
            asked.cancel()
            raise

    def environment(
        self,
        pod: str = "ztunnel",
        *,
        namespace: str = "istio-system",
        account: str = "ztunnel",
        **more: str,
    ) -> dict[str, str]:
        """What a proxy in this pod must be told, with a token of its own; its files can be swapped by `mounts[pod]`."""
        token = self.call(lambda server: server.tokens.issue(namespace, account, pod))
        mounts = Mounts(self.folder / pod, roots=self.roots, token=token)
        self.mounts[pod] = mounts
        return environment(
            self.address, mounts, pod=pod, namespace=namespace, account=account, **more
        )

    @property
    def address(self) -> str:
        """`host:port`."""
        return self.server.address

    @property
    def roots(self) -> str:
        """The roots that it publishes, in PEM."""
        return self.call(lambda server: server.certificates.bundle)

    # The cluster.

    def put(self, *resources: Resource) -> None:
        """Resources come or change, in one event."""
        self.call(lambda server: server.put(*resources))

    def remove(self, *resources: Resource) -> None:
        """They go, in one event."""
        self.call(lambda server: server.remove(*resources))

    def rotate_token(self, pod: str) -> None:
        """The pod's file has a new token, and the old one counts no longer; open streams stay open."""
        token = self.mounts[pod].token

        def renew(server: FakeIstiod) -> str:
            old = token.path.read_text()
            caller = server.tokens.revoke(old)
            return server.tokens.issue(caller.namespace, caller.account, caller.pod)

        # Between the two, a proxy that asks shows a token that is revoked: as it is with the kubelet.
        token.write(self.call(renew))

    # What goes wrong.

    def start(self) -> None:
        """Serve again, on the same port."""
        self.wait(FakeIstiod.start)

    def stop(self) -> None:
        """As if it were killed."""
        self.wait(FakeIstiod.stop)

    def hang(self) -> None:
        """Connections are taken and never answered, until `start`."""
        self.wait(lambda server: server.port.hang())

    def freeze(self) -> None:
        """Everything that is open stays open and silent, until `thaw`."""
        self.call(lambda server: server.port.freeze())

    def thaw(self) -> None:
        """Go on."""
        self.call(lambda server: server.port.thaw())

    def next_stream(self, *faults: Fault, at: int = 1) -> None:
        """What happens to the responses of the next stream."""
        self.call(lambda server: server.next_stream(*faults, at=at))

    def end_streams(self, status: Status, message: str = "") -> None:
        """Every stream ends with this status."""
        self.call(lambda server: server.end_streams(status, message))

    def reset_streams(self) -> None:
        """Every stream is reset."""
        self.call(FakeIstiod.reset_streams)

    # What was seen.

    def synced(self, streams: int = 1, within: float = DEADLINE) -> list[Stream]:
        """Wait for so many streams that have taken a response of either type."""
        return self.wait(
            functools.partial(FakeIstiod.synced, streams=streams, within=within), within
        )

    def answered(self, within: float = DEADLINE) -> None:
        """Wait until every response was taken or refused."""
        self.wait(functools.partial(FakeIstiod.answered, within=within), within)

    def nacked(self, type_url: str, within: float = DEADLINE) -> str:
        """Wait for a refusal, and give its text."""
        waiting = functools.partial(FakeIstiod.nacked, type_url=type_url, within=within)
        return self.wait(waiting, within)

    def attempted(self, streams: int, within: float = DEADLINE) -> None:
        """Wait until so many streams were opened since the beginning."""
        waiting = functools.partial(FakeIstiod.attempted, streams=streams, within=within)
        self.wait(waiting, within)
