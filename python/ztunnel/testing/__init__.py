"""What we and our users test with: a clock that is moved by hand, an authority and a data plane made of memory."""

from __future__ import annotations

from ztunnel.testing.ca import FakeCa
from ztunnel.testing.clock import ManualClock
from ztunnel.testing.dataplane import FakeDataPlane, FakeEvent, FakeKey, FakeRejection

__all__ = ["FakeCa", "FakeDataPlane", "FakeEvent", "FakeKey", "FakeRejection", "ManualClock"]
