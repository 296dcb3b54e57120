"""A service-mesh node proxy: a Rust data plane, steered from Python.

Importing this package loads nothing heavy; the command line is `ztunnel.cli`.
"""

from __future__ import annotations

__version__ = "0.1.0"
