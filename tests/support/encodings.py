"""Content encodings undone by libraries that the node does not use (RFC 9110 §8.4.1)."""

from __future__ import annotations

import gzip

import brotli
import zstandard


def decoded(body: bytes, encoding: str) -> bytes:
    """The body as it was before `Content-Encoding: encoding`."""
    match encoding:
        case "gzip":
            return gzip.decompress(body)
        case "br":
            plain: bytes = brotli.decompress(body)
            return plain
        case "zstd":
            # A stream does not say its length beforehand.
            return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    raise AssertionError(f"nobody asked for {encoding}")
