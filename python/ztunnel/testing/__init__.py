"""What we and our users test with: a clock that is moved by hand, an istiod, an authority and a data plane of memory.

    from ztunnel.testing import FakeIstiod, ManualClock

Every name is imported when it is first used: pytest loads `ztunnel.testing.plugin` in each run of everybody who has
this package, and a run that uses none of it must not pay for it. See docs/guides/testing.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ztunnel.testing.ca import FakeCa
    from ztunnel.testing.clock import ManualClock
    from ztunnel.testing.dataplane import FakeDataPlane, FakeEvent, FakeKey, FakeRejection
    from ztunnel.testing.istiod.background import BackgroundIstiod
    from ztunnel.testing.istiod.child import ChildIstiod
    from ztunnel.testing.istiod.server import FakeIstiod

__all__ = [
    "BackgroundIstiod",
    "ChildIstiod",
    "FakeCa",
    "FakeDataPlane",
    "FakeEvent",
    "FakeIstiod",
    "FakeKey",
    "FakeRejection",
    "ManualClock",
]

_HOMES = {
    "BackgroundIstiod": "istiod.background",
    "ChildIstiod": "istiod.child",
    "FakeCa": "ca",
    "FakeDataPlane": "dataplane",
    "FakeEvent": "dataplane",
    "FakeIstiod": "istiod.server",
    "FakeKey": "dataplane",
    "FakeRejection": "dataplane",
    "ManualClock": "clock",
}


def __getattr__(name: str) -> object:
    """The module attribute of this name, from where it lives."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
