"""Bundles of root certificates as files have them: PEM, perhaps several, perhaps with remarks between.

Only takes apart and counts; whether a root is any good is decided by whoever parses it.
"""

from __future__ import annotations

import re

from ztunnel.errors import CaError

# A public trust store has about 150; more than this is a mistake or an attack (reliability BI-C).
MAX_CERTIFICATES = 500
MAX_BYTES = 4 * 1024 * 1024


def certificates_in(data: bytes) -> list[bytes]:
    """Each certificate of a PEM text, in order, duplicates left out; `CaError` if there is none."""
    if len(data) > MAX_BYTES:
        raise CaError(f"a bundle of certificates is larger than {MAX_BYTES // 1024 // 1024} MiB")
    blocks = [block.replace(b"\r\n", b"\n") + b"\n" for block in _CERTIFICATE.findall(data)]
    found = list(dict.fromkeys(blocks))
    if not found:
        raise CaError(
            "no certificate in the bundle; it must be PEM (`-----BEGIN CERTIFICATE-----`)"
        )
    if len(found) > MAX_CERTIFICATES:
        raise CaError(f"more than {MAX_CERTIFICATES} certificates in the bundle: {len(found)}")
    return found


def on_lines_of_their_own(data: bytes) -> bytes:
    """The same text with each boundary on its own line: Rust would pass over a root behind another on one line."""
    return _END.sub(rb"\1\n", _BEGIN.sub(rb"\n\1", data))


_BEGIN = re.compile(rb"(?<=[^\n])(-----BEGIN )")
_END = re.compile(rb"(-----END [A-Z0-9 ]{1,40}-----)(?=[^\r\n])")
# RFC 7468 §2: the label, base64 lines, the same label. Other blocks (keys, CRLs) are not matched.
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
