"""A process that forks while it owns a data plane: the child has none of its threads and must not wait for them."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, json, os, sys
from ztunnel.dataplane.native import _ztunnel

workload = {"name": "a", "namespace": "b", "serviceAccount": "c"}
owned = [_ztunnel.DataPlane(json.dumps({"workload": workload}).encode())]
owned[0].start()
child = os.fork()
if child == 0:
    owned.clear()
    gc.collect()
    os._exit(7)
_, status = os.waitpid(child, 0)
owned[0].stop()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_child_lets_its_data_plane_go_at_once() -> None:
    # Whoever waits for a thread that is not there waits for ever.
    done = subprocess.run([sys.executable, "-c", PROGRAM], timeout=60, check=False)
    assert done.returncode == 7
