"""Samples in, a table and a file out. Arithmetic and text only.

A figure is the median over rounds; a ratio is the median of the rounds' own ratios, always turned so
that above 1 means ours is better.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(kw_only=True)
class Sample:
    """One subject, one workload, one round."""

    units: float
    seconds: float = 0.0
    cpu: float = 0.0
    latencies: list[float] = field(default_factory=list)
    memory: float = 0.0
    """What the proxies grew by, in bytes."""
    resident: float = 0.0
    """What they had before, in bytes."""

    def figures(self, unit: str) -> dict[str, float]:
        """What a reader wants to know, by the name of its row."""
        found: dict[str, float] = {}
        if unit == "GiB":
            found["CPU s/GiB"] = self.cpu / self.units
            found["MiB/s"] = self.units * 1024 / self.seconds
        elif self.memory:
            found["KiB per connection"] = self.memory / self.units / 1024
            found["MiB before"] = self.resident / 2**20
        else:
            found[f"CPU µs per {unit}"] = self.cpu / self.units * 1e6
            if unit == "connection" and self.cpu:
                found["connections per CPU second"] = self.units / self.cpu
            found["p50 µs"] = _percentile(self.latencies, 50) * 1e6
            found["p99 µs"] = _percentile(self.latencies, 99) * 1e6
            found[f"{unit}s per second"] = self.units / self.seconds
        return found


# Rows in which more is better; in all others less is.
MORE_IS_BETTER = ("MiB/s", "per second", "per CPU second")
# What has been promised of the ratio to the pure-Python tunnel.
TARGETS = {
    ("bulk down, 1 connection", "CPU s/GiB"): 10.0,
    ("bulk up, 1 connection", "CPU s/GiB"): 10.0,
    ("new connections, 8 at a time", "connections per CPU second"): 8.0,
}
COLUMNS = ("direct", "ours", "pure_python")


@dataclass
class Sheet:
    """Everything measured in one session."""

    smoke: bool = False
    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)

    def add(self, title: str, unit: str, subject: str, sample: Sample) -> None:
        """Note one sample."""
        self.units[title] = unit
        self.samples.setdefault(title, {}).setdefault(subject, []).append(sample)

    def summary(self, title: str) -> dict[str, object]:
        """Medians by row and subject, and the ratio."""
        rounds = {
            subject: [sample.figures(self.units[title]) for sample in samples]
            for subject, samples in self.samples[title].items()
        }
        rows: dict[str, object] = {}
        for row in dict.fromkeys(name for figures in rounds.values() for name in figures[0]):
            cells: dict[str, float] = {
                subject: statistics.median(figure[row] for figure in figures)
                for subject, figures in rounds.items()
                if row in figures[0] and not (subject == "direct" and "CPU" in row)
            }
            if "ours" in rounds and "pure_python" in rounds:
                pairs = zip(rounds["ours"], rounds["pure_python"], strict=True)
                cells["ratio"] = statistics.median(
                    _ratio(row, one[row], other[row]) for one, other in pairs
                )
            rows[row] = cells
        return rows

    def table(self) -> str:
        """The whole session as a Markdown table."""
        lines = ["| | direct | ours | pure Python | ours is better by |", "|---|--:|--:|--:|--:|"]
        for title in self.samples:
            lines.append(f"| **{title}** | | | | |")
            for row, cells in self.summary(title).items():
                assert isinstance(cells, dict)
                shown = [_number(cells.get(column)) for column in COLUMNS]
                ratio = f"{cells['ratio']:.1f}x" if "ratio" in cells else ""
                if (target := TARGETS.get((title, row))) and ratio and not self.smoke:
                    verdict = "met" if cells["ratio"] >= target else "MISSED"
                    ratio += f" (target {target:g}x: {verdict})"
                lines.append(f"| {row} | {' | '.join(shown)} | {ratio} |")
        return "\n".join(lines)

    def write(self, folder: Path, stamp: str, machine: dict[str, object]) -> None:
        """Keep every sample as JSON, and the table beside it."""
        folder.mkdir(parents=True, exist_ok=True)
        summaries = {title: self.summary(title) for title in self.samples}
        samples = {
            title: {name: [_lean(one) for one in many] for name, many in subjects.items()}
            for title, subjects in self.samples.items()
        }
        whole = {"date": stamp, "machine": machine, "medians": summaries, "samples": samples}
        (folder / f"{stamp}.json").write_text(json.dumps(whole, indent=1) + "\n")
        facts = "\n".join(f"* {name}: {value}" for name, value in machine.items())
        (folder / f"{stamp}.md").write_text(f"# {stamp}\n\n{facts}\n\n{self.table()}\n")


def _lean(sample: Sample) -> dict[str, object]:
    """Without the thousands of single latencies."""
    whole: dict[str, object] = asdict(sample)
    whole["latencies"] = {
        f"p{percent}": _percentile(sample.latencies, percent) for percent in (50, 90, 99, 100)
    }
    return whole


def _ratio(row: str, ours: float, other: float) -> float:
    if row.endswith(MORE_IS_BETTER):
        return ours / other if other else float("inf")
    return other / ours if ours else float("inf")


def _percentile(ordered: list[float], percent: float) -> float:
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"
