"""Texts that have a form: names, addresses, durations. One rule each, for settings, mesh files and identities."""

from __future__ import annotations

import re
import socket

TRUST_DOMAIN_RULE = "lower-case letters, digits, `.`, `-`, `_`"
SEGMENT_RULE = "letters, digits, `.`, `-`, `_`"

DEFAULT_TRUST_DOMAIN = "cluster.local"
DEFAULT_SERVICE_ACCOUNT = "default"


def is_trust_domain(text: str) -> bool:
    """True for the name of a trust domain (SPIFFE-ID standard §2.1), as `rust/mesh/src/identity.rs` reads it."""
    return _TRUST_DOMAIN.fullmatch(text) is not None


def is_segment(text: str) -> bool:
    """True for one path segment of a SPIFFE ID (SPIFFE-ID standard §2.2): not empty, no dot segment."""
    return _SEGMENT.fullmatch(text) is not None and text not in (".", "..")


def is_address(text: str) -> bool:
    """True for an IPv4 or IPv6 address without zone, in the spellings that Rust's `IpAddr` reads too."""
    # inet_pton, not `ipaddress`: no leading zeros, no `%zone`, and ten times as fast.
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True


def is_socket_address(text: str) -> bool:
    """True for `10.0.0.1:80` or `[::1]:80`; port 0 leaves the choice to the system."""
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        return ":" in host and is_address(host[1:-1]) and _is_port(port)
    return ":" not in host and is_address(host) and _is_port(port)


def is_loopback(address: str) -> bool:
    """True for an address that nobody on another machine reaches: 127.0.0.0/8 and ::1."""
    if not is_address(address):
        return False
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address) == bytes(15) + b"\1"
    return address.startswith("127.")


def is_loopback_socket_address(text: str) -> bool:
    """The same with a port: `127.0.0.1:80`, `[::1]:80`."""
    return is_socket_address(text) and is_loopback(text.rpartition(":")[0].strip("[]"))


def is_target(text: str) -> bool:
    """True for what a connection can be sent to: an address or a host name, with a port that is not 0."""
    host, _, port = text.rpartition(":")
    if port == "0":
        return False
    return is_socket_address(text) or (_is_port(port) and _HOST.fullmatch(host) is not None)


def duration(text: str) -> float:
    """Seconds of `5s`, `1h30m`, `250ms`, `1.5h`, `7d`; `ValueError` if it is none."""
    if len(text) > 64 or _DURATION.fullmatch(text) is None:
        raise ValueError(f"not a duration: {text[:64]}")
    return sum(float(number) * _SECONDS[unit] for number, unit in _STEP.findall(text))


def _is_port(text: str) -> bool:
    return _PORT.fullmatch(text) is not None and int(text) <= 65535


# 255: the longest trust domain that the SPIFFE-ID standard allows (§2.3).
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")
# RFC 1123 §2.1 with the underscore that Kubernetes host names may have; 253: RFC 1035 §3.1. Never all digits
# and dots, which would be a mistyped address.
_HOST = re.compile(r"(?=.{1,253}$)(?![0-9.]+$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_STEP = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
# Each unit once, from large to small, as people say it.
_DURATION = re.compile(
    r"(?=.)"
    + "".join(rf"(?:[0-9]+(?:\.[0-9]+)?{unit})?" for unit in ("d", "h", "m(?!s)", "s", "ms"))
)
