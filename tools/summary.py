"""Repeat the closing lines of test logs and count them: `python tools/summary.py LOG…`.

Understands what cargo test and pytest print last. Exits 1 if a log has failures, or has no closing
line at all: a runner that died is not a runner that passed.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

ANSI = re.compile(r"\x1b\[[0-9;]*m")
CARGO = re.compile(r"^test result: .*$", re.MULTILINE)
PYTEST = re.compile(r"^=+ (?:.* in [0-9.]+s.*) =+$|^no tests ran in .*$", re.MULTILINE)
COUNT = re.compile(r"(\d+) (passed|failed|errors?)\b")
BROKEN = re.compile(
    r"^error: (?:could not compile|test failed|\d+ targets? failed).*$", re.MULTILINE
)


def closing_lines(text: str) -> list[str]:
    """Give the runners' own last words, without the binaries that had nothing to run."""
    cargo = [line for line in CARGO.findall(text) if not re.search(r"\b0 passed; 0 failed", line)]
    return cargo + PYTEST.findall(text)


def main(paths: list[Path]) -> int:
    """Print the closing lines and their sum; 0 if everything passed."""
    total: Counter[str] = Counter()
    for path in paths:
        text = ANSI.sub("", path.read_text(errors="replace")) if path.exists() else ""
        lines = closing_lines(text)
        counts: Counter[str] = Counter()
        for line in lines:
            for number, word in COUNT.findall(line):
                counts["passed" if word == "passed" else "failed"] += int(number)
        if not lines:
            counts["failed"] += 1
            lines = ["no closing line: the runner did not finish"]
        elif BROKEN.search(text) and not counts["failed"]:
            counts["failed"] += 1
            lines.append("a test program did not compile or died")
        print(f"{path.stem}: {counts['passed']} passed, {counts['failed']} failed")
        for line in lines:
            print(f"  {line}")
        total += counts
    print(f"{total['passed']} passed, {total['failed']} failed")
    return 1 if total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main([Path(argument) for argument in sys.argv[1:]]))
