"""What a reader has to know about the machine to use the figures elsewhere. Reads only."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

FLAGS = ("aes", "pclmulqdq", "avx2", "vaes", "vpclmulqdq", "avx512f")


def facts() -> dict[str, Any]:
    """Processor, kernel, load, and how fast one AEAD is."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    found = set(flags[1].split()) if flags else set()
    return {
        "processor": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "flags": " ".join(flag for flag in FLAGS if flag in found),
        "kernel": platform.release(),
        "congestion control": "cubic in both namespaces",
        "load at start": round(os.getloadavg()[0], 2),
        "OpenSSL AES-256-GCM, 16 KiB": aead(),
        "python": platform.python_version(),
    }


def aead() -> str:
    """The yardstick for another machine: `openssl speed`, one second."""
    program = shutil.which("openssl")
    if program is None:
        return "no openssl here"
    words = [program, "speed", "-evp", "aes-256-gcm", "-bytes", "16384", "-seconds", "1", "-mr"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    rate = re.search(r"^\+F:\d+:[^:]*:([\d.]+)", done.stdout, re.MULTILINE)
    return f"{float(rate[1]) / 1e9:.2f} GB/s" if rate else "not measured"


def version(words: Sequence[str], how: str = "version") -> str:
    """A command as it may be shown: without its folder, and with what it says of itself."""
    shown = " ".join([Path(words[0]).name, *words[1:]])
    done = None
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        ask = [words[0], how]
        done = subprocess.run(ask, capture_output=True, text=True, timeout=10, check=False)
    said = done.stdout.strip().splitlines() if done and not done.returncode else []
    return f"`{shown}`: {said[0]}" if said else f"`{shown}`"
