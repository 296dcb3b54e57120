"""What every Python test may use. Fixtures only; helpers with a life of their own are in `ztunnel.testing`."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def examples() -> Path:
    """The folder of examples that users are shown."""
    return ROOT / "examples"
