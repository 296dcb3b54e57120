"""What every Python test may use. Fixtures only; helpers with a life of their own are in `ztunnel.testing`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.nodes import EVERY_NODE

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """What a run chooses for all nodes."""
    parser.addoption(
        "--records",
        choices=["in_place", "rustls"],
        help="how every node makes TLS records (`tls.records`); not given: as nodes do by themselves",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tell the nodes, and the reader of the run's log."""
    if records := config.getoption("--records"):
        EVERY_NODE["tls"] = {"records": records}


def pytest_report_header(config: pytest.Config) -> str:
    """Which record path this run is about."""
    return f"tls records: {config.getoption('--records') or 'not set'}"


@pytest.fixture
def examples() -> Path:
    """The folder of examples that users are shown."""
    return ROOT / "examples"
