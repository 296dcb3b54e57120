"""A pytest plugin: fixtures for tests that need a control plane or a clock. Loaded by itself where ztunnel is installed.

    def test_my_policy_denies(istiod, tmp_path):
        istiod.put(mesh.workload("web", ip="10.0.0.7"))

Imports nothing until a fixture is asked for. See docs/guides/testing.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ztunnel.testing.clock import ManualClock
    from ztunnel.testing.istiod.background import BackgroundIstiod


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock that stands still until the test moves it."""
    from ztunnel.testing.clock import ManualClock

    return ManualClock()


@pytest.fixture
def istiod(tmp_path: Path) -> Iterator[BackgroundIstiod]:
    """A control plane that serves on a loopback port while the test runs; its files are in `tmp_path`."""
    from ztunnel.testing.istiod.background import BackgroundIstiod

    with BackgroundIstiod(tmp_path) as serving:
        yield serving
