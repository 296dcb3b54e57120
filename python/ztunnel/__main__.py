"""`python -m ztunnel`: the same program as `ztunnel`."""

from __future__ import annotations

import sys

from ztunnel.cli import main

if __name__ == "__main__":
    sys.exit(main())
