"""The token that says who we are to the control plane, as it is now (spec/control.md §4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ztunnel.endpoint import TokenFile, TokenText
from ztunnel.errors import EndpointError
from ztunnel.files import read_small_file

if TYPE_CHECKING:
    from pathlib import Path

    from ztunnel.endpoint import Token

# A projected token has about 1 KiB; header lists of 64 KiB are refused by many servers.
MAX_TOKEN = 32 * 1024


def read_token(token: Token) -> str | None:
    """The token without blanks around it, None if there is none to send; `EndpointError` for one that cannot be."""
    match token:
        case TokenFile(path):
            where, found = f"the token in {path}", _read(path)
        case TokenText(text):
            where, found = "the token that was given", text.strip()
        case None:
            return None
    if not found:
        raise EndpointError(f"{where} is empty")
    if len(found) > MAX_TOKEN or not (found.isascii() and found.isprintable()):
        raise EndpointError(f"{where} is too long, or has characters that no header may have")
    return found


def _read(path: Path) -> str:
    try:
        data = read_small_file(path, limit=MAX_TOKEN)
    except OSError as error:
        reason = error.strerror or error
        raise EndpointError(f"the token cannot be read: {reason}: {path}") from None
    return data.decode("ascii", "replace").strip()
