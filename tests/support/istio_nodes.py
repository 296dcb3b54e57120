"""Nodes whose certificates come over gRPC: the program that `nodes.py` runs, with `istio_ca.py`'s authority in it.

`ztunnel run` knows the built-in CA only, and `ztunnel proxy` has its ports fixed, so that a mesh of it needs namespaces.
This is the node of the former with the authority of the latter; as a module it is what the child process runs.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.nodes import DEADLINE, EMPTY, ROOT, Mesh, Node, eventually, python_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.istio_ca import IstioCa


# Between two texts of the heap.
SEPARATOR = b"\0\n"


class IstioNode(Node):
    """As `Node`, but whoever `ca` is signs for it."""

    program = ("-m", "tests.support.istio_nodes")

    def __init__(
        self,
        mesh: Mesh,
        workload: str,
        *,
        istio_ca: IstioCa,
        lifetime: float = 3600.0,
        **more: object,
    ) -> None:
        """`lifetime` is what the node asks for, in seconds."""
        super().__init__(mesh, workload, **more)  # type: ignore[arg-type]
        facts = {
            "host": istio_ca.server.host,
            "port": istio_ca.server.port,
            "roots": str(istio_ca.roots),
            "token": str(istio_ca.token),
            "lifetime": lifetime,
        }
        _facts(self.file).write_text(json.dumps(facts))

    def heap(self, within: float = DEADLINE) -> bytes:
        """Every text and every bytes of the node's Python heap, as they are now, one behind the other."""
        path = _heap(self.file)
        path.unlink(missing_ok=True)
        self.signal(signal.SIGUSR2)
        eventually(path.exists, "the heap is written", within)
        return path.read_bytes()

    def launch(self, *arguments: str, environment: Mapping[str, str] = EMPTY) -> None:
        """As its base, where the tests are found too."""
        path = f"{python_path()}:{ROOT}"
        super().launch(*arguments, environment={"PYTHONPATH": path, **environment})


def _facts(file: Path) -> Path:
    return file.with_suffix(".ca.json")


def _heap(file: Path) -> Path:
    return file.with_suffix(".heap")


def _write_heap(path: Path) -> None:
    """Follows every reference there is: the collector knows containers only, and texts are in them."""
    seen: set[int] = set()
    found: list[bytes] = []
    waiting: list[Any] = [*gc.get_objects(), *sys._current_frames().values()]
    own = {id(seen), id(found), id(waiting)}
    while waiting:
        each = waiting.pop()
        if id(each) in seen or id(each) in own:
            continue
        seen.add(id(each))
        if isinstance(each, str):
            found.append(each.encode("utf-8", "surrogatepass"))
        elif isinstance(each, (bytes, bytearray)):
            found.append(bytes(each))
        elif isinstance(each, int) and each.bit_length() > 64:
            found += (each.to_bytes(256, order, signed=True) for order in ("big", "little"))
        waiting += gc.get_referents(each)
    draft = path.with_suffix(".draft")
    draft.write_bytes(SEPARATOR.join(found))
    draft.replace(path)


def main() -> int:
    """Runs a node, whose file is the last argument, until a signal ends it."""
    from ztunnel.app import Node as App
    from ztunnel.app import real_parts
    from ztunnel.endpoint import Endpoint, RootFile, TokenFile
    from ztunnel.nodefile import load_node_file
    from ztunnel.settings import IstioCaSettings
    from ztunnel.telemetry import log

    path = Path(sys.argv[-1])
    facts = json.loads(_facts(path).read_text())
    file = load_node_file(path)
    log.set_up(style="json", level=file.settings.log_level)
    endpoint = Endpoint(
        host=facts["host"],
        port=facts["port"],
        roots=RootFile(Path(facts["roots"])),
        token=TokenFile(Path(facts["token"])),
        cluster_id="Kubernetes",
    )
    ca = IstioCaSettings(endpoint=endpoint, leaf_lifetime=facts["lifetime"], impersonates=True)
    settings = dataclasses.replace(file.settings, ca=ca)
    signal.signal(signal.SIGUSR2, lambda *_: _write_heap(_heap(path)))
    node = App(settings, file.identity, file.mesh, real_parts(), started=time.monotonic())
    return asyncio.run(node.run())


if __name__ == "__main__":
    raise SystemExit(main())
