"""One sheet for the session; the table at its end, and the files if it was not a smoke test."""

from __future__ import annotations

import datetime as dt
import os
import platform
import ssl
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from bench.report import Sheet

BENCH = Path(__file__).resolve().parent
SHEET = Sheet(smoke=bool(os.environ.get("BENCH_SMOKE")))


@pytest.fixture(scope="session")
def sheet() -> Sheet:
    """Where the samples go."""
    return SHEET


@pytest.fixture(scope="session")
def rounds() -> int:
    """How often everything is measured: BENCH_ROUNDS, or 7; once in a smoke test."""
    return 1 if SHEET.smoke else int(os.environ.get("BENCH_ROUNDS", "7"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the table; keep it, too, if everything ran."""
    if not SHEET.samples:
        return
    terminalreporter.section(
        "smoke test: it runs, its figures mean nothing" if SHEET.smoke else "medians"
    )
    terminalreporter.write_line(SHEET.table())
    if not SHEET.smoke and not terminalreporter.stats.get("failed"):
        stamp = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d-%H%M")
        SHEET.write(BENCH / "results", stamp, _machine())
        terminalreporter.write_line(f"written: bench/results/{stamp}.json and .md")


def _machine() -> dict[str, object]:
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ", 1)[1] for line in info if line.startswith("model name")), "?")
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True, text=True, check=False, cwd=BENCH,
    )  # fmt: skip
    return {
        "ztunnel": f"{_version('ztunnel')}, commit {commit.stdout.strip() or 'unknown'}",
        "processor": f"{model}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "rival": f"{ssl.OPENSSL_VERSION}, h2 {_version('h2')}",
        "load at the end": f"{os.getloadavg()[0]:.1f}",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
