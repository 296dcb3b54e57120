"""What every unit test is spared: that another one, which ran a command, has set up the program's log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """`ztunnel.telemetry.log.set_up` takes lines from whoever else would hear them."""
    logger = logging.getLogger("ztunnel")
    before = logger.handlers[:], logger.level, logger.propagate, logging.raiseExceptions
    yield
    logger.handlers[:], level, logger.propagate, logging.raiseExceptions = before
    logger.setLevel(level)
