"""Durations as upstream's environment spells them; `spelling.duration` is the stricter form of our files.

Numbers with a unit, one after the other or joined by `+` and `*` (`1h30m`, `1m+30s`, `2*30s`); a number
without a unit is seconds, alone or behind others (`3m31`).
"""

from __future__ import annotations

import math
import re


def duration(text: str) -> float:
    """Seconds; `ValueError` if it is none."""
    if len(text) > MAX_LENGTH or not text.strip():
        raise ValueError
    return math.fsum(math.prod(_value(f) for f in term.split("*")) for term in text.split("+"))


def _value(text: str) -> float:
    if not text.strip() or not _STEPS.fullmatch(text):
        raise ValueError
    steps = _STEP.findall(text)
    if not all(unit in _SECONDS for _, unit in steps):
        raise ValueError
    return math.fsum(float(number) * _SECONDS[unit] for number, unit in steps)


# Nobody writes more; Python's own number parser is quadratic in very long ones.
MAX_LENGTH = 128

_DAY = 86400.0
_SPELLINGS = {
    1e-9: ("ns", "nsec", "nanosecond"),
    1e-6: ("us", "µs", "usec", "microsecond"),
    1e-3: ("ms", "msec", "millisecond"),
    1.0: ("s", "sec", "second"),
    60.0: ("m", "min", "minute"),
    3600.0: ("h", "hr", "hour"),
    _DAY: ("d", "day"),
    7 * _DAY: ("w", "week"),
    30 * _DAY: ("mon", "month"),
    365 * _DAY: ("y", "yr", "year"),
}
_ONE = {name: seconds for seconds, names in _SPELLINGS.items() for name in names}
_MANY = {f"{name}s": seconds for name, seconds in _ONE.items() if len(name) > 2}
# Each as it stands, in capitals and with the first letter capital.
_SECONDS = {
    spelled: seconds
    for name, seconds in (_ONE | _MANY).items()
    for spelled in (name, name.upper(), name.capitalize())
} | {"": 1.0}

# The unit swallows no blank before nothing: two numbers in a row (`1 2`) are a typing mistake.
_STEP = re.compile(r"([0-9]+(?:\.[0-9]+)?)(?:\s*([A-Za-zµ]+))?")
_STEPS = re.compile(r"\s*([0-9]+(\.[0-9]+)?\s*[A-Za-zµ]+\s*)*([0-9]+(\.[0-9]+)?\s*)?")
