"""SIGTERM while a serving program still imports what it needs (C6)."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# A signal from within an import: the same moment each time.
PROGRAM = """
import os, signal, sys
from ztunnel.cli import main

class Told:
    def find_spec(self, name, path, target=None):
        if name == "ztunnel.app":
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Told())
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("argv", [["proxy"], ["run", "none.yaml"]])
def test_c6_a_signal_while_imports_run_ends_the_program_well(argv: list[str]) -> None:
    command = [sys.executable, "-c", PROGRAM, *argv]
    ended = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_what_was_there_before_is_there_again() -> None:
    from ztunnel.cli.early import ends_at_sigterm

    before = signal.getsignal(signal.SIGTERM)
    with ends_at_sigterm():
        assert signal.getsignal(signal.SIGTERM) is not before
        with pytest.raises(SystemExit) as caught:
            signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == 0
    assert signal.getsignal(signal.SIGTERM) is before
