"""What every Python test may use. Fixtures only; helpers with a life of their own are in `ztunnel.testing`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.nodes import EVERY_NODE

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# Seconds for a test that names none of its own: more than the longest wait of `tests/support`, so that what did not happen
# is told by whoever waited for it, and ten times what work of a second or two takes beside others.
TIMEOUT = 90

# Every run looks at the same examples, so what fails was broken by the change at hand; `ZTUNNEL_EXAMPLES=5000` looks for
# new ones. An example has no time limit and neither has their making: both would measure the machine.
EXAMPLES = int(os.environ.get("ZTUNNEL_EXAMPLES", "0"))
settings.register_profile(
    "ztunnel",
    deadline=None,
    derandomize=not EXAMPLES,
    max_examples=EXAMPLES or 100,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ztunnel")


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
    """Give each its time; leave out what needs upstream's program where there is none."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT))
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
