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
    parser.addoption(
        "--upstream",
        metavar="PATH",
        help="upstream's ztunnel, for the tests against it; not given: they are left out",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tell the nodes, and the reader of the run's log."""
    if records := config.getoption("--records"):
        EVERY_NODE["tls"] = {"records": records}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs upstream's program where there is none: nobody has it who has not built it."""
    if config.getoption("--upstream"):
        return
    left_out = [item for item in items if item.get_closest_marker("upstream")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("upstream")]


def pytest_report_header(config: pytest.Config) -> str:
    """Which record path this run is about."""
    return f"tls records: {config.getoption('--records') or 'not set'}"


@pytest.fixture
def examples() -> Path:
    """The folder of examples that users are shown."""
    return ROOT / "examples"
