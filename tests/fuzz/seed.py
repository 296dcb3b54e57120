"""Writes the seed corpus: for each target the inputs its parser was made for, and those it was hardened against.

Needs the PyPI packages `cryptography`, `h2`, `hpack` and `hyperframe`. Run it after a change here; the files are committed, so that
fuzzing needs no Python. A file's name says what is in it; the hostile ones are the lines of spec/reliability.md §6.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from seeds import (
    certificates,
    connect_headers,
    decode,
    delta_response,
    frame,
    hpack,
    local_decode,
    matcher,
    proxy_header,
    records,
    socks5,
    store,
)

CORPUS = Path(__file__).with_name("corpus")
LARGEST = 4096


def main() -> None:
    """Replace the whole corpus."""
    targets = {
        "cert_chain": certificates.cert_chain,
        "connect_headers": connect_headers.connect_headers,
        "crl": certificates.crl,
        "decode": decode.decode,
        "delta_response": delta_response.delta_response,
        "frame": frame.frame,
        "hpack": hpack.hpack,
        "local_decode": local_decode.local_decode,
        "matcher": matcher.matcher,
        "proxy_header": proxy_header.proxy_header,
        "records": records.records,
        "socks5": socks5.socks5,
        "store": store.store,
    }
    for target, seeds in targets.items():
        folder = CORPUS / target
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, content in seeds():
            path = folder / name
            assert not path.exists(), f"{path} is given twice"
            assert len(content) <= LARGEST, f"{path} has {len(content)} bytes"
            path.write_bytes(content)


if __name__ == "__main__":
    main()
