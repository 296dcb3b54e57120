"""The map of upstream's tests (docs/development/upstream-tests.md) leads to tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MAP = (ROOT / "docs" / "development" / "upstream-tests.md").read_text()
NAMED = re.findall(r"`([\w/]+\.(?:py|rs))::(\w+)`", MAP)


def rows(title: str) -> list[tuple[str, str]]:
    """Of one section's table: upstream's name, and where it is here."""
    section = MAP.partition(f"## {title}")[2].partition("\n## ")[0]
    found = re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    return [(theirs, ours) for theirs, ours in found if ours != "Ours"]


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED)))
def test_every_test_in_the_map_exists(file: str, name: str) -> None:
    keyword = "fn" if file.endswith(".rs") else "def"
    assert re.search(rf"^\s*(?:async )?{keyword} {name}\(", (ROOT / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("title", "count"),
    [
        ("Namespaces", 30),
        ("Without namespaces", 20),
        ("Decisions", 41),
        ("Configuration", 12),
        ("Mended", 20),
    ],
)
def test_every_row_has_a_test_or_says_what_it_waits_for(title: str, count: int) -> None:
    found = rows(title)
    assert len(found) == count
    assert len({theirs for theirs, _ in found}) == count
    homeless = [theirs for theirs, ours in found if "::" not in ours and "later: " not in ours]
    assert not homeless


def test_what_waits_waits_for_a_feature_that_is_known() -> None:
    features = {"in-pod mode", "DNS proxy"}
    assert set(re.findall(r"later: ([^;|]+?) \|", MAP)) == features
