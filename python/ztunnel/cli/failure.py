"""What the verbs that serve say when they cannot: one line for each mistake, the last one begins with `error:`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ztunnel.cli import EXIT_FAILURE
from ztunnel.errors import EnvironmentUnusable, InvalidFile, ZtunnelError

if TYPE_CHECKING:
    from collections.abc import Callable


def or_failure(serve: Callable[[], int], *, hint: str = "") -> int:
    """The exit code of `serve`, or 1 after its error was printed; `hint` is for one about the environment."""
    try:
        return serve()
    except (InvalidFile, EnvironmentUnusable) as error:
        for line in error.lines():
            print(line, file=sys.stderr)
        print(
            f"error: {error}{hint if isinstance(error, EnvironmentUnusable) else ''}",
            file=sys.stderr,
        )
    except ZtunnelError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        about = f": {error.filename}" if error.filename else ""
        print(f"error: {error.strerror or error}{about}", file=sys.stderr)
    return EXIT_FAILURE
