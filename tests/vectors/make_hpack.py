"""Makes hpack.json: header blocks that two implementations of RFC 7541 agree on.

Needs the PyPI package `hpack` and a Rust toolchain; run it from the root of the repository. The file is a list of
conversations, each a list of blocks through one shared context: `sizes` are the values of
SETTINGS_HEADER_TABLE_SIZE since the block before, `fields` are [name, value, how], bytes as the characters of
their numbers; `theirs` is the block as `hpack` writes it and `ours` as `hbone::hpack` does. `ours` was read by
`hpack` before it was written down; that `theirs` is read by us is what the Rust tests check.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
from pathlib import Path
from typing import Any

from hpack import Decoder, Encoder, HeaderTuple, NeverIndexedHeaderTuple

VECTORS = Path(__file__).with_name("hpack.json")
PRINT = [
    "cargo",
    "test",
    "-q",
    "-p",
    "hbone",
    "--lib",
    "print_our_blocks",
    "--",
    "--ignored",
    "--nocapture",
]

Field = tuple[str, str, str]
Block = dict[str, Any]

PODS = ["web", "api", "db"]


def main() -> None:
    """Write the lists and their blocks, ask the Rust side for its blocks, check them, add them."""
    choose = random.Random(7541)
    conversations = [
        conversation(choose, kind) for kind in ("tunnel", "table", "bytes") for _ in range(8)
    ]
    for blocks in conversations:
        write_theirs(blocks)
    save(conversations)
    printed = subprocess.run(PRINT, check=True, capture_output=True, text=True).stdout
    ours = iter(re.findall(r"ours ([0-9a-f]*)$", printed, re.MULTILINE))
    for blocks in conversations:
        read_ours(blocks, ours)
    save(conversations)


def conversation(choose: random.Random, kind: str) -> list[Block]:
    """Some blocks of one kind: CONNECT as we send it, changing tables, or any bytes at all."""
    blocks: list[Block] = []
    for _ in range(choose.randrange(3, 8)):
        match kind:
            case "tunnel":
                fields, sizes = connect(choose), []
            case "table":
                fields = [repeated(choose) for _ in range(choose.randrange(10))]
                # Rising and distinct: `hpack` tells of each size, though one is above the last, and forgets a repeated one.
                sizes = sorted(choose.sample([0, 40, 100, 300, 4096], k=choose.randrange(3)))
            case _:
                fields, sizes = [anything(choose) for _ in range(choose.randrange(4))], []
        blocks.append({"sizes": sizes, "fields": fields})
    return blocks


def connect(choose: random.Random) -> list[Field]:
    """Fields of an HBONE request (spec/dataplane.md §2.4)."""
    pod = choose.choice(PODS)
    trace = f"00-{choose.randrange(16**32):032x}-{choose.randrange(16**16):016x}-00"
    baggage = f"k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.deployment.name={pod},service.name={pod}"
    return [
        (":method", "CONNECT", "index"),
        (":authority", f"10.0.0.{choose.randrange(4)}:8080", "index"),
        ("baggage", baggage, "index"),
        ("forwarded", f'for="10.0.1.{choose.randrange(9)}:{choose.randrange(65536)}"', "index"),
        ("traceparent", trace, choose.choice(["index", "never"])),
    ]


def repeated(choose: random.Random) -> Field:
    """Out of few, so that tables are hit; now and then one that is larger than the table."""
    value = "v" * choose.choice([0, 1, 2, 30, 90])
    return ("n" * choose.randrange(1, 4), value, choose.choice(["index", "index", "never"]))


def anything(choose: random.Random) -> Field:
    """Any bytes: the long codes of Appendix B."""
    text = [
        "".join(chr(choose.randrange(256)) for _ in range(choose.randrange(1, 40)))
        for _ in range(2)
    ]
    return (text[0], text[1], choose.choice(["index", "never"]))


def write_theirs(blocks: list[Block]) -> None:
    """Encode by `hpack`."""
    encoder = Encoder()
    for block in blocks:
        for size in block["sizes"]:
            encoder.header_table_size = size
        headers = [
            (NeverIndexedHeaderTuple if how == "never" else HeaderTuple)(
                name.encode("latin-1"), value.encode("latin-1")
            )
            for name, value, how in block["fields"]
        ]
        block["theirs"] = encoder.encode(headers).hex()
        block["ours"] = ""


def read_ours(blocks: list[Block], ours: Any) -> None:
    """Let `hpack` decode what the Rust side wrote, and keep it."""
    decoder = Decoder()
    for block in blocks:
        for size in block["sizes"]:
            decoder.max_allowed_table_size = size
        block["ours"] = next(ours)
        seen = [(n, v) for n, v in decoder.decode(bytes.fromhex(block["ours"]), raw=True)]
        sent = [(n.encode("latin-1"), v.encode("latin-1")) for n, v, _ in block["fields"]]
        assert seen == sent, f"{seen} is not {sent}"


def save(conversations: list[list[Block]]) -> None:
    """One block per line: diffs show which changed."""
    lines = [",\n".join(json.dumps(block) for block in blocks) for blocks in conversations]
    VECTORS.write_text("[\n[" + "],\n[".join(lines) + "]\n]\n")


if __name__ == "__main__":
    main()
