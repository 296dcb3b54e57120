"""A client's node, a server's node, and an application behind the latter: the least that carries traffic.

with two_nodes(tmp_path, network="127.3", near={"admin": True}) as pair:
    client, server = pair.connects()
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tests.support.apps import Application, direct
from tests.support.nodes import Mesh, Node, as_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.apps import End

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class TwoNodes:
    """Both run."""

    near: Node
    """The client's."""
    far: Node
    """The server's."""
    application: Application

    @property
    def target(self) -> str:
        """The application's address, to which the near node forwards."""
        return as_text(self.application.address)

    def connects(self) -> tuple[End, End]:
        """Both ends of a new connection: the client's, the application's."""
        return self.application.pair(lambda: direct(self.near.forwards[self.target]))


@contextmanager
def two_nodes(
    folder: Path,
    *,
    network: str,
    near: Mapping[str, Any] = NOTHING,
    far: Mapping[str, Any] = NOTHING,
) -> Iterator[TwoNodes]:
    """Runs both, with these settings more, until the end of the block."""
    with Mesh(folder, network=network) as mesh:
        mesh.workload("client")
        with Application.listen(mesh.workload("server")) as application:
            forwards = [as_text(application.address)]
            with (
                Node(mesh, "server", **far) as server,
                Node(mesh, "client", forwards=forwards, **near) as client,
            ):
                yield TwoNodes(near=client, far=server, application=application)
