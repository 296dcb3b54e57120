"""The reference of the environment: up to date, and whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tools import environment_reference
from ztunnel.environment.table import GROUPS

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_page_is_what_the_table_says() -> None:
    assert environment_reference.main(["--check"]) == 0


def test_every_variable_has_a_row_of_five_cells() -> None:
    page = environment_reference.reference()
    for _, variables in GROUPS:
        for variable in variables:
            (row,) = (
                line for line in page.splitlines() if line.startswith(f"| `{variable.name}` |")
            )
            assert row.count(" | ") == 4, row


def test_a_page_that_has_drifted_is_shown_with_the_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "docs" / "reference" / "environment.md"
    monkeypatch.setattr(environment_reference, "PATH", page)
    assert environment_reference.main(["--check"]) == 1
    assert environment_reference.main([]) == 0
    page.write_text(page.read_text().replace("`PACKET_MARK`", "`PACKET_MARKS`"))
    capsys.readouterr()
    assert environment_reference.main(["--check"]) == 1
    err = capsys.readouterr().err
    assert "-| `PACKET_MARKS` |" in err
    assert "docs/reference/environment.md is out of date" in err
