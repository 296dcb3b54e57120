"""The medians as bars: one small panel for each figure, written as SVG by hand. Text only, no library.

Bars start at zero and are not comparable between panels; the line across a bar is its interval over the
rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from bench.macro import stats
from bench.macro.table import number

if TYPE_CHECKING:
    from bench.macro.table import Results

COLUMNS = 3
PANEL, LABEL, BAR, GAP, HEAD, TITLE, MARGIN = 380, 96, 14, 5, 24, 34, 12
VALUE = 64
CONTROL, FIRST, OTHER, INK, FAINT = "#9aa0a6", "#1a73e8", "#c8ad7f", "#202124", "#5f6368"
STYLE = "font-family: system-ui, sans-serif; font-size: 11px"


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One subject's median, and between what it lies."""

    label: str
    colour: str
    interval: stats.Interval


def svg(results: Results) -> str:
    """The whole run."""
    parts: list[str] = []
    width, top = COLUMNS * PANEL + 2 * MARGIN, MARGIN
    parts.append(
        _text(MARGIN, top + 14, f"{results.stamp} · medians of both proxies", 14, bold=True)
    )
    top += TITLE
    for row, title in results.titles.items():
        panels = _panels(results, row)
        if not panels:
            continue
        parts.append(_text(MARGIN, top + 14, title, 13, bold=True))
        top += TITLE - 8
        for begin in range(0, len(panels), COLUMNS):
            line = panels[begin : begin + COLUMNS]
            for column, (name, bars) in enumerate(line):
                parts.append(_panel(MARGIN + column * PANEL, top, name, bars))
            top += HEAD + max(len(bars) for _, bars in line) * (BAR + GAP) + 10
        top += 6
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top + MARGIN}" style="{STYLE}">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _panels(results: Results, row: str) -> list[tuple[str, list[Bar]]]:
    samples = stats.with_added(results.samples)
    panels = []
    for name in stats.figures(samples, row):
        bars = []
        for at, subject in enumerate(["direct", *results.subjects]):
            if found := stats.values(samples, row, subject, name):
                colour = (CONTROL, FIRST)[at] if at < 2 else OTHER
                interval = stats.bootstrap(list(found.values()))
                bars.append(Bar(label=subject, colour=colour, interval=interval))
        if bars:
            panels.append((name, bars))
    return panels


def _panel(left: float, top: float, name: str, bars: list[Bar]) -> str:
    better = "more is better" if stats.better_is_more(name) else "less is better"
    most = max(max(bar.interval.high, bar.interval.median) for bar in bars) or 1.0
    room = PANEL - LABEL - VALUE - MARGIN
    parts = [
        _text(left, top + 12, name, 11, bold=True),
        _text(left + PANEL - 2 * MARGIN, top + 12, better, 9, colour=FAINT, anchor="end"),
    ]
    for at, bar in enumerate(bars):
        y = top + HEAD + at * (BAR + GAP) - 4
        ends = (bar.interval.low, bar.interval.median, bar.interval.high)
        low, width, high = (max(0.0, value) / most * room for value in ends)
        start, middle = left + LABEL, y + BAR / 2
        parts += [
            _text(start - 6, y + 11, bar.label, 10, anchor="end"),
            f'<rect x="{start}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{bar.colour}"/>',
            f'<path d="M{start + low:.1f} {middle}H{start + high:.1f}" stroke="{INK}" stroke-width="1"/>',
            _text(start + max(width, high) + 5, y + 11, number(bar.interval.median), 10),
        ]
    return "\n".join(parts)


def _text(
    x: float,
    y: float,
    words: str,
    size: int,
    *,
    bold: bool = False,
    colour: str = INK,
    anchor: str = "start",
) -> str:
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" '
        f'text-anchor="{anchor}"{weight}>{escape(words)}</text>'
    )
