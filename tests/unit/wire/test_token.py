"""The token: read when it is needed, never sent when it cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ztunnel.endpoint import TokenFile, TokenText
from ztunnel.errors import EndpointError
from ztunnel.wire.token import read_token

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_read_each_time_and_blanks_around_it_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    assert read_token(TokenFile(path)) == "one"
    path.write_text("  two\r\n")
    assert read_token(TokenFile(path)) == "two"


def test_no_token_is_no_error() -> None:
    assert read_token(None) is None
    assert read_token(TokenText("x")) == "x"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"a\nb", "no header may have"),
        ("ä".encode(), "no header may have"),
        (b"\xff", "no header may have"),
        (b"x" * 40_000, "too long"),
    ],
)
def test_what_cannot_be_sent_is_an_error_without_the_token_in_it(
    data: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_bytes(data)
    for token in (TokenFile(path), TokenText(data.decode("utf-8", "replace"))):
        with pytest.raises(EndpointError, match=message) as caught:
            read_token(token)
        assert "xx" not in str(caught.value)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match=f"No such file or directory: {tmp_path}/none"):
        read_token(TokenFile(tmp_path / "none"))
