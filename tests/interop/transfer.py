"""What two ends say and hear through whatever lies between: random bytes both ways, or a refusal."""

from __future__ import annotations

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor

from tests.support.apps import End, Heard, direct

MIB = 1024 * 1024


def random_bytes(size: int, *, seed: int) -> bytes:
    """The same for the same seed."""
    return random.Random(seed).randbytes(size)


def both_ways(client: End, server: End, *, up: bytes, down: bytes) -> None:
    """Each sends while it receives; whatever the other end heard must be what was said."""
    with ThreadPoolExecutor(4) as threads:
        saying = [threads.submit(client.says, up), threads.submit(server.says, down)]
        at_server = threads.submit(server.takes, len(up))
        at_client = threads.submit(client.takes, len(down))
        for task in saying:
            task.result()
        assert _digest(at_server.result()) == _digest(up), "bytes of the client changed on the way"
        assert _digest(at_client.result()) == _digest(down), (
            "bytes of the server changed on the way"
        )


def refusal(address: tuple[str, int]) -> Heard:
    """What a client hears that says nothing. A reset may come before `connect` has returned."""
    try:
        with direct(address) as connection:
            return End(connection).hears()
    except ConnectionResetError:
        return Heard(b"", "ECONNRESET")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
