"""The map of the control side's rows (docs/development/control-tests.md) leads to tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MAP = (ROOT / "docs" / "development" / "control-tests.md").read_text()
NAMED = re.findall(r"`([\w/]+\.(?:py|rs))::(\w+)`", MAP)


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED)))
def test_every_test_in_the_map_exists(file: str, name: str) -> None:
    keyword = "fn" if file.endswith(".rs") else "def"
    assert re.search(rf"^\s*(?:async )?{keyword} {name}\(", (ROOT / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("title", "count"),
    [
        ("Configuration", 12),
        ("SPIFFE", 2),
        ("xDS", 10),
        ("Certificates", 5),
        ("Ports, figures, lines, the end", 9),
        ("Drop-in checklist", 16),
    ],
)
def test_every_row_has_a_test_or_says_what_it_waits_for(title: str, count: int) -> None:
    section = MAP.partition(f"## {title}")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE)[1:]
    assert len(rows) == count
    assert [row for row, shown in rows if "::" not in shown and "later: " not in shown] == []


def test_what_waits_waits_for_the_mode_that_is_known() -> None:
    assert set(re.findall(r"later: ([^;|]+?) \|", MAP)) == {"in-pod mode"}
