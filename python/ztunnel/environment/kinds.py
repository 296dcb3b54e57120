"""What the text of a variable may be: how it is read, and what is allowed, for the message.

Pure. `table.py` says which variable is of which kind. The rules are upstream's (spec/control.md §2.1).
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import urlsplit

from ztunnel.environment.config import Loopback, ServerAddress, Share, WorkloadInfo
from ztunnel.environment.durations import duration
from ztunnel.spelling import is_address
from ztunnel.telemetry.log import levels_of

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Kind(Generic[T]):
    """A kind of value."""

    def __init__(self, read: Callable[[str], T], allowed: str, name: str = "text") -> None:
        """`read` raises `ValueError` for what is not allowed; `allowed` ends the sentence `must be …`."""
        self.read = read
        self.allowed = allowed
        self.name = name
        """In one word, for the reference."""


def integer(low: int, high: int) -> Kind[int]:
    """Decimal digits, within bounds."""

    def read(text: str) -> int:
        if not _DECIMAL.fullmatch(text) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return Kind(read, f"a whole number from {low} to {high}", "integer")


def seconds(low: float, high: float) -> Kind[float]:
    """A duration within bounds."""

    def read(text: str) -> float:
        try:
            value = duration(text)
        except (ValueError, OverflowError):
            raise ValueError('must be a duration such as "30s" or "1h30m"') from None
        if not low <= value <= high:
            raise ValueError
        return value

    return Kind(read, f"a duration from {_spelled(low)} to {_spelled(high)}", "duration")


def _spelled(value: float) -> str:
    """A bound as somebody would write it."""
    if value >= 86400:
        return f"{value / 86400:g}d"
    return f"{value:g}s" if value >= 1 or value == 0 else f"{value * 1000:g}ms"


def choice(*words: str, allowed: str = "") -> Kind[str]:
    """One of a few words."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return Kind(read, allowed or " or ".join(words), "word")


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


def _truth_or_empty(text: str) -> bool:
    return bool(text) and _truth(text)


def _address(text: str) -> ServerAddress | None:
    """Host and port, with `https://` before them or nothing; the empty text is no server at all."""
    if not text:
        return None
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        # In its own words the library neither says what is allowed nor keeps a password to itself.
        raise ValueError(f"must be {ADDRESS.allowed}") from None
    if parts.scheme != "https":
        raise ValueError("TLS is required: must begin with https:// or with the host")
    if not host or parts.username is not None or any(c.isspace() for c in host):
        raise ValueError(f"must be {ADDRESS.allowed}")
    return ServerAddress(host=host, port=port if port is not None else 443, authority=parts.netloc)


def _dns_address(text: str) -> Loopback | str:
    """`localhost:PORT` or `ip:port`."""
    host, colon, port = text.rpartition(":")
    number = integer(0, 65535).read(port) if colon else -1
    if host == "localhost":
        return Loopback(port=number)
    bracketed = host.startswith("[") and host.endswith("]")
    if not is_address(host[1:-1] if bracketed else host) or bracketed != (":" in host):
        raise ValueError
    return f"{host}:{number}"


def _workload(text: str) -> WorkloadInfo:
    parts = text.split("/", 2)
    if len(parts) != 3 or not all(parts) or "/" in parts[2]:
        raise ValueError
    return WorkloadInfo(namespace=parts[0], name=parts[1], service_account=parts[2])


def _filter(text: str) -> str:
    if text:
        levels_of(text)
    return text


def _share(text: str) -> Share | int:
    """`4`, `0` for all, `50%`."""
    found = _PERCENT.fullmatch(text)
    if not found:
        return integer(0, 65535).read(text)
    percent = float(found[1])
    if not 0 < percent <= 100:
        raise ValueError
    return Share(percent=percent)


def _quantity(text: str) -> int:
    """A quantity of Kubernetes in whole cores, rounded up."""
    found = _CORES.fullmatch(text)
    if not found:
        raise ValueError
    cores = math.ceil(float(found[1]) / (1000 if found[2] else 1))
    if cores <= 0:
        raise ValueError
    return cores


BOOLEAN = Kind(_truth, "true or false", "boolean")
# Upstream looks at these without its own parser: what is empty is as good as unset.
SWITCH = Kind(_truth_or_empty, "true or false", "boolean")
TEXT = Kind(str, "a text")
ADDRESS = Kind(_address, "an address such as istiod.istio-system.svc:15012", "address")
DNS_ADDRESS = Kind(_dns_address, "localhost:port or ip:port", "ip:port")
FILTER = Kind(_filter, "log levels", "log filter")
QUANTITY = Kind(_quantity, "a number of cores above 0, such as 2, 1.5 or 500m", "quantity")
THREADS = Kind(
    _share, "a number of threads, 0 for all cores, or a percentage such as 50%", "integer or %"
)
WORKLOAD = Kind(
    _workload,
    "namespace/name/serviceaccount of the workload to stand for",
    "namespace/name/account",
)

# 20 digits hold every 64-bit number; a sign is taken as Rust's parser takes it.
_DECIMAL = re.compile(r"\+?[0-9]{1,20}")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)%")
_CORES = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(m?)")
