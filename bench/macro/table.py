"""The results as text: a Markdown table for people, JSON with every sample for everybody else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.macro import stats

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.macro.stats import Interval, Sample


@dataclass(frozen=True, kw_only=True)
class Results:
    """A whole run."""

    stamp: str
    machine: Mapping[str, Any]
    subjects: Sequence[str]
    """Without the control; ratios are of the first to each other."""
    titles: Mapping[str, str]
    """Row → what stands above it."""
    samples: Sequence[Sample]

    def markdown(self) -> str:
        """Facts, table, and what to doubt."""
        facts = [f"* {name}: {value}" for name, value in self.machine.items()]
        parts = [f"# {self.stamp}", "\n".join(facts), self.table(), self.doubts()]
        return "\n\n".join(part for part in parts if part) + "\n"

    def table(self) -> str:
        """One line for each figure: the control, the subjects, the ratios."""
        samples = stats.with_added(self.samples)
        first, *others = self.subjects or ("",)
        columns = ["direct", *self.subjects]
        ratios = [f"{first} ÷ {other}" for other in others]
        lines = [
            f"| | {' | '.join([*columns, *ratios])} |",
            "|---" + "|--:" * (len(columns) + len(ratios)) + "|",
        ]
        for row, title in self.titles.items():
            names = stats.figures(samples, row)
            if not names:
                continue
            lines.append(f"| **{title}** |" + " |" * (len(columns) + len(ratios)))
            for name in names:
                cells = [number(stats.median(samples, row, column, name)) for column in columns]
                cells += [
                    _ratio(stats.ratio(samples, row, name, (first, other))) for other in others
                ]
                lines.append(f"| {name} | {' | '.join(cells)} |")
        return "\n".join(lines)

    def doubts(self) -> str:
        """What failed, and where the machine was not quiet."""
        lines = []
        drifts = stats.drifts(self.samples)
        if drifts:
            lines.append(
                f"**Drifted**: the control's last round is more than {stats.DRIFT:.0%} away from its first in "
                f"{len(drifts)} figures; do not quote wall-clock figures of these rows."
            )
            lines += [f"* {drift}" for drift in drifts]
        failed = [sample for sample in self.samples if sample.error]
        if failed:
            lines.append(f"**Failed**: {len(failed)} blocks.")
            lines += [
                f"* round {sample.round}, {sample.row}, {sample.subject}: {short(sample.error)}"
                for sample in failed
            ]
        return "\n".join(lines)

    def json(self) -> str:
        """Everything."""
        whole = {
            "date": self.stamp,
            "machine": dict(self.machine),
            "subjects": list(self.subjects),
            "rows": dict(self.titles),
            "drifts": stats.drifts(self.samples),
            "samples": [
                {**vars(sample), "figures": dict(sample.figures), "raw": list(sample.raw)}
                for sample in self.samples
            ],
        }
        return json.dumps(whole, indent=1) + "\n"


def short(text: str | None) -> str:
    """The end of a failure's text, in one line."""
    return (text or "").strip().replace("\n", " / ")[-300:]


def _ratio(interval: Interval | None) -> str:
    if interval is None:
        return ""
    if interval.count == 1:
        return f"{interval.median:.2f}"
    return f"{interval.median:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def number(value: float | None) -> str:
    """Three digits, or all before the point."""
    if value is None:
        return ""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"
