"""Reading what somebody else writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ztunnel.files import read_small_file, signature_of


def test_no_more_is_read_than_shows_that_it_is_too_much(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100)
    assert read_small_file(tmp_path / "f", limit=100) == b"x" * 100
    assert read_small_file(tmp_path / "f", limit=10) == b"x" * 11


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f")
    with pytest.raises(OSError, match="not a regular file"):
        read_small_file(tmp_path / "f", limit=10)


@pytest.mark.parametrize("name", ["/dev/zero", "."])
def test_what_is_no_file_is_refused(name: str) -> None:
    with pytest.raises(OSError, match="not a regular file"):
        read_small_file(Path(name), limit=10)


def test_a_signature_follows_symlinks_and_survives_absence(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    (tmp_path / "two").write_text("1")
    link = tmp_path / "link"
    assert signature_of(link) is None
    link.symlink_to("one")
    first = signature_of(link)
    link.unlink()
    link.symlink_to("two")
    assert None not in (first, signature_of(link))
    assert first != signature_of(link)
