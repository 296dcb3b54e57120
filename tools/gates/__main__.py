"""`python -m tools.gates`: counts, compares with tests/gates/baseline.json, says what rose.

`--update` writes what was counted as the new baseline. Nothing here is timed: the counts are the same on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tools.gates.compare import TOLERANCE, Change, judge
from tools.gates.measure import Missing, everything

ROOT = Path(__file__).parent.parent.parent
BASELINE = ROOT / "tests" / "gates" / "baseline.json"


def main() -> int:
    """Gives the exit status: 1 if a count rose or is not known."""
    parser = argparse.ArgumentParser(prog="python -m tools.gates", description=__doc__)
    parser.add_argument("--update", action="store_true", help="take the counts as the baseline")
    update = parser.parse_args().update
    try:
        counted = everything(ROOT)
    except Missing as missing:
        print(missing, file=sys.stderr)
        return 1
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    verdicts = judge(baseline, counted)
    print(f"{'':<46} {'baseline':>12} {'counted':>12}")
    for verdict in verdicts:
        print(verdict)
    if update:
        BASELINE.write_text(json.dumps(counted, indent=2, sort_keys=True) + "\n")
        print(f"written: {BASELINE.relative_to(ROOT)}")
        return 0
    if any(verdict.change is Change.FALLEN for verdict in verdicts):
        print(f"\nfell by more than {TOLERANCE:.0%}: hold the gain with `make gates UPDATE=1`")
    failed = [verdict for verdict in verdicts if verdict.fails]
    if failed:
        print(f"\n{len(failed)} counts rose by more than {TOLERANCE:.0%} or are not known:")
        for verdict in failed:
            print(f"  {verdict}")
        print(
            "bring them down, or say in the commit why not and take them with `make gates UPDATE=1`"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
