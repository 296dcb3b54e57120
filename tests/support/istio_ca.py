"""An `istio.v1.auth` authority for tests that run no event loop: served from a thread of its own.

    with IstioCa(tmp_path) as ca:
        environment = ca.environment()

Counterpart: `ztunnel.testing.istio_ca`, which it runs.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.certs import Leaf
from ztunnel.testing.istio_ca import FakeIstioCa

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE = 30.0
TOKEN = "a.token.of-its-own"


class IstioCa:
    """Serves while its `with` lasts, in the namespace of whoever enters it."""

    # Not 127.0.0.1: a connection that somebody opens has that for its own address, and may take the port of a server
    # that is down for a while.
    def __init__(self, folder: Path, *, host: str = "127.77.0.1") -> None:
        self.server = FakeIstioCa(host=host, names=(host,))
        self.server.token = TOKEN
        self.roots = folder / "ca-root.pem"
        self.roots.write_text(self.server.authority.pem)
        self.token = folder / "token"
        # Kubernetes writes none, people's editors write a line end.
        self.token.write_text(f"{TOKEN}\n")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="istio-ca", daemon=True)

    def __enter__(self) -> Self:
        """Serve."""
        self._thread.start()
        self.starts()
        return self

    def __exit__(self, *_: object) -> None:
        """Serve no longer."""
        self.stops()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()

    def starts(self) -> None:
        """Serve again, on the same port."""
        asyncio.run_coroutine_threadsafe(self.server.start(), self._loop).result(DEADLINE)

    def stops(self) -> None:
        """Close the port and every connection."""
        asyncio.run_coroutine_threadsafe(self.server.stop(), self._loop).result(DEADLINE)

    def leaf(self, identity: str) -> Leaf:
        """A certificate for a peer that does not ask for one itself."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.UniformResourceIdentifier(identity)
        return Leaf(
            chain=self.server.authority.sign(key.public_key(), [name]).encode(),
            key=key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def environment(self) -> dict[str, str]:
        """What a proxy must be told to use it."""
        return {
            "CA_ADDRESS": f"https://{self.server.host}:{self.server.port}",
            "CA_ROOT_CA": str(self.roots),
            "AUTH_TOKEN": str(self.token),
        }
