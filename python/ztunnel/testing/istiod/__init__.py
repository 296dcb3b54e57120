"""An istiod for tests: the mesh by delta ADS and certificates by `istio.v1.auth`, over real TLS gRPC.

`server.py` is where to begin; `mesh.py` builds what it serves, `faults.py` and `answers.py` what goes wrong.
"""

from __future__ import annotations

from ztunnel.testing.istiod import answers, faults, mesh
from ztunnel.testing.istiod.ads import Verdict
from ztunnel.testing.istiod.observed import NotSeenError
from ztunnel.testing.istiod.resources import ADDRESS, AUTHORIZATION
from ztunnel.testing.istiod.server import FakeIstiod

__all__ = [
    "ADDRESS",
    "AUTHORIZATION",
    "FakeIstiod",
    "NotSeenError",
    "Verdict",
    "answers",
    "faults",
    "mesh",
]
