"""docs/guides/testing.md: every example in it is run, as its reader would."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.nodes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

GUIDE = ROOT / "docs" / "guides" / "testing.md"
BLOCK = re.compile(r"<!-- run -->\n```python\n(.*?)```", re.DOTALL)


def test_the_examples_of_the_guide_pass(tmp_path: Path) -> None:
    text = GUIDE.read_text()
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count("```python") >= 4
    for number, block in enumerate(blocks):
        (tmp_path / f"test_{number}.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "ztunnel.testing.plugin", "-q", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(blocks)} passed" in done.stdout
