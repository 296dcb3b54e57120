"""One request and its answer, over the standard library's client."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.nodes import Address

DEADLINE = 30.0


@dataclass(frozen=True)
class Answered:
    """What came back."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes


def ask(address: Address, method: str, target: str, **headers: str) -> Answered:
    """As `curl -X METHOD`; underscores in headers' names are dashes."""
    connection = http.client.HTTPConnection(*address, timeout=DEADLINE)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, target, headers=named)
        answer = connection.getresponse()
        got = {name.lower(): value for name, value in answer.getheaders()}
        return Answered(answer.status, answer.reason, got, answer.read())
    finally:
        connection.close()
