"""Makes `docs/reference/environment.md` out of the table that the program reads by, or checks that it is up to date.

python -m tools.environment_reference            # writes it
python -m tools.environment_reference --check    # exit 1, with the difference, if it would be another one
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ztunnel.environment.table import GROUPS, PREFIXES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ztunnel.environment.kinds import Kind
    from ztunnel.environment.variables import Status, Variable

PATH = Path(__file__).parents[1] / "docs" / "reference" / "environment.md"

HEAD = """\
# Environment of `ztunnel proxy`

<!-- Made by `python -m tools.environment_reference` out of python/ztunnel/environment/table.py; `make lint` checks. -->

`ztunnel proxy` is told everything by environment variables, under upstream's names. One that is unset, or is not valid
UTF-8, has its default. One that is set and cannot be read stops the start: every mistake is listed with the variable,
its value and what is allowed. The empty text counts as set. Values of headers and tokens are never shown.

* **boolean**: exactly `true` or `false`.
* **integer**: decimal digits.
* **duration**: numbers with units (`ns` `us` `ms` `s` `m` `h` `d` `w` `mon` `y`, or their long names), one after the
  other or joined by `+` and `*`: `90s`, `1h30m`, `2*30s`. A number without a unit is seconds.
* **address**: `host:port`, with or without `https://`; a path is ignored, TLS is a must.

What stands in the last column:

* **built**: does what it says.
* **warns**: known and checked, and without effect yet; set to something that asks for more, it is named in one warning.
* **stops**: a value that asks for what is not built yet ends the start, as going on without it would be unsafe.
* **accepted**: taken, and without effect as far as the proxy's work goes.
"""


def reference() -> str:
    """The page."""
    parts = [HEAD]
    for title, variables in GROUPS:
        parts.append(f"\n## {title}\n\n{_COLUMNS}")
        parts += [_row(variable) for variable in variables]
    parts.append(f"\n## Names that begin so\n\n{_PREFIX_COLUMNS}")
    parts += [
        f"| `{p}*` | {meaning} | {_status(s, about)} |\n" for p, meaning, s, about in PREFIXES
    ]
    return "".join(parts)


def _row(variable: Variable[Any]) -> str:
    cells = (
        f"`{variable.name}`",
        _type(variable.kind),
        variable.shown,
        variable.meaning,
        _status(variable.status, variable.about),
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _type(kind: Kind[Any]) -> str:
    """Its name, with its bounds where it has some."""
    match kind.name:
        case "integer":
            return kind.allowed.replace("a whole number", "integer")
        case "duration":
            return kind.allowed.removeprefix("a ")
        case "word":
            return kind.allowed
    return kind.name


def _status(status: Status, about: str) -> str:
    return f"{status.value}: {about}" if about else status.value


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the page, or compares it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    page = reference()
    if not parser.parse_args(argv).check:
        PATH.parent.mkdir(parents=True, exist_ok=True)
        PATH.write_text(page)
        return 0
    written = PATH.read_text() if PATH.exists() else ""
    if written == page:
        return 0
    name = str(PATH.relative_to(PATH.parents[2]))
    lines = difflib.unified_diff(
        written.splitlines(True), page.splitlines(True), name, "as the table has it"
    )
    sys.stderr.writelines(lines)
    print(f"{name} is out of date; `make reference` writes it", file=sys.stderr)
    return 1


_COLUMNS = "| Variable | Type | Default | Meaning | Status |\n|---|---|---|---|---|\n"
_PREFIX_COLUMNS = "| Variable | Meaning | Status |\n|---|---|---|\n"


if __name__ == "__main__":
    sys.exit(main())
