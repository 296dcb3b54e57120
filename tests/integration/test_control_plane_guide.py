"""docs/guides/testing.md and examples/testing: every example is run, as its reader would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.nodes import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.timeout(120)

GUIDE = ROOT / "docs" / "guides" / "testing.md"
BLOCK = re.compile(r"<!-- run -->\n```python\n(.*?)```", re.DOTALL)


def test_the_examples_of_the_guide_pass(tmp_path: Path) -> None:
    text = GUIDE.read_text()
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("```python") >= 4
    for number, block in enumerate(blocks):
        (tmp_path / f"test_{number}.py").write_text(block)
    assert f"{len(blocks)} passed" in _run(tmp_path, tmp_path)


def test_the_example_with_a_real_proxy_passes(tmp_path: Path, examples: Path) -> None:
    """In a network of its own: the proxy's ports are fixed, and other tests have them, too."""
    flags = "-n" if os.geteuid() == 0 else "-rn"
    alone = ["unshare", flags, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if os.geteuid() != 0 and subprocess.run([*alone, "true"], check=False).returncode != 0:
        pytest.skip("needs root, or a kernel that lets everybody make namespaces")
    assert "2 passed" in _run(tmp_path, examples / "testing", alone)


def _run(folder: Path, tests: Path, before: Sequence[str] = ()) -> str:
    """Run pytest with the plugin and nothing of ours; what it said."""
    words = [sys.executable, "-m", "pytest", "-p", "ztunnel.testing.plugin", "-q"]
    done = subprocess.run(
        [*before, *words, "-p", "no:cacheprovider", f"--rootdir={folder}", str(tests)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
