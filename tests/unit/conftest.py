"""What every unit test is spared: that another one, which ran a command, has set up the program's log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from ztunnel.telemetry.log import Wanted

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
    # pytest 9.2 puts its own handlers on loggers that do not propagate, where `use` gives them our filter.
    for handler in logging.getLogger().handlers:
        handler.filters[:] = [each for each in handler.filters if not isinstance(each, Wanted)]
