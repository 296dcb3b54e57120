"""What a running node never tells: private keys and tokens, in any answer, line or profile (spec/reliability.md T31)."""

from __future__ import annotations

import gzip
import json
import re
from typing import TYPE_CHECKING

from tests.support.http import ask
from tests.support.two_nodes import two_nodes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.nodes import Address

ASKED = (
    ("GET", "/"),
    ("GET", "/config_dump"),
    ("GET", "/config_dump?mask=dynamic_active_secrets,dynamic_warming_secrets"),
    ("POST", "/logging"),
    ("POST", "/logging?level=%00%0a"),
    ("POST", "/debug/pprof/heap/profiling?activate=true"),
    ("GET", "/debug/pprof/heap"),
    ("GET", "/debug/pprof/profile?seconds=1"),
    ("GET", "/nothing"),
)


def answers(admin: Address, metrics: Address) -> bytes:
    """Everything that both ports say, as one text."""
    said = []
    for method, target in ASKED:
        answer = ask(admin, method, target)
        body = answer.body
        said += [json.dumps(answer.headers).encode(), body]
        if body.startswith(b"\x1f\x8b"):
            said.append(gzip.decompress(body))
    said.append(ask(metrics, "GET", "/metrics").body)
    return b"\n".join(said)


def test_neither_answers_nor_lines_hold_a_private_key(tmp_path: Path) -> None:
    more = {"admin": True, "logLevel": "trace"}
    with two_nodes(tmp_path, network="127.3", near=more) as pair:
        node = pair.near
        near, far = pair.connects()
        near.says(b"hello")
        assert far.takes(5) == b"hello"
        said = answers(node.bound["admin"], node.bound["metrics"])
        near.closes()
        far.closes()
        node.access.wait_for("connection complete")
        assert node.terminate() == 0
    said += "\n".join([*node.access.text, *node.log.text]).encode()
    # It was worth looking: certificates are there.
    assert b"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t" in said  # `-----BEGIN CERTIFICATE-----`
    keys = keys_below(tmp_path / "ca")
    assert keys
    for secret in keys:
        assert secret not in said
    # The same words in base64, whatever stands before them.
    for told in (b"PRIVATE KEY", b"UFJJVkFURSBLRVk", b"BSSVZBVEUgS0VZ", b"QUklWQVRFIEtFW"):
        assert told not in said


def keys_below(folder: Path) -> list[bytes]:
    """The bodies of all private keys in the folder, as they stand there."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            text = path.read_bytes()
            pattern = rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\n(.*?)\n"
            found += re.findall(pattern, text, re.DOTALL)
    return found
