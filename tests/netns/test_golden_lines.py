"""The lines of a whole life, beside upstream's own: from its start to the end of a drain that took too long.

`tests/vectors/upstream` holds what one of upstream's nodes wrote. The access log has its golden tests in
`tests/integration/test_golden_telemetry.py`; here are all other lines, and by name those that ours has more.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.netns.proxies import Town
from tests.netns.serving import ECHO_PORT, HELLO, echo, serving
from tests.support.apps import End
from tests.support.nodes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.netns.namespaces import Network
    from tests.support.nodes import Fields

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

RECORDED = ROOT / "tests" / "vectors" / "upstream" / "node-a-log-json.txt"
SIGTERM = "received signal SIGTERM, starting shutdown"
# The mesh comes from a file here, and nobody changes the filter.
ELSEWHERE = ("ztunnel::xds", "ztunnel::telemetry", "access")
# What ours says and the recording does not. Upstream too says the first, which is a file of its own among the vectors.
MORE = (
    "running with config: ",
    "tls records: ",
    "certificate installed",
    "ready",
    "draining",
    "drain deadline reached; connections cut: ",
    "connections were cut at the deadline",
)


def comparable(line: Fields) -> Fields:
    """Without what differs by nature. The order of fields stays."""
    # Compared whole by tests/unit/cli/test_main.py.
    message = re.sub(r"(?<=BuildInfo\{).*", "", line["message"])
    return line | {"time": "", "message": re.sub(r"\(.*?\)|[0-9]+", "#", message)}


def told(lines: Iterable[Fields]) -> list[str]:
    """For comparison: level, scope, message and fields, each in its place."""
    kept = [line for line in lines if not line["scope"].startswith(ELSEWHERE)]
    return [json.dumps(comparable(line)) for line in kept if not is_more(line)]


def is_more(line: Fields) -> bool:
    """Whether the recording has no such line."""
    return str(line["message"]).startswith(MORE)


def test_every_line_but_named_ones_is_upstreams(network: Network, tmp_path: Path) -> None:
    with Town(network, tmp_path) as town:
        client, plain = town.pod("client"), town.machine("plain")
        with (
            town.running(CONNECTION_TERMINATION_DEADLINE="3s", ISTIO_META_DNS_CAPTURE="false"),
            serving(plain, echo(plain)),
            client.dials((plain.address, ECHO_PORT)) as connection,
        ):
            end = End(connection).says(HELLO)
            assert end.takes(22) == HELLO * 2
            assert client.node.terminate() == 0
        client.node.access.join()
    ours = told(client.node.access.all())
    golden = told(json.loads(line) for line in RECORDED.read_text().splitlines())
    (begun, ended), (golden_begun, golden_ended) = split(ours), split(golden)
    assert begun == golden_begun
    # Who is first among those with nothing to wait for is nobody's to say, but they are before the one that waits.
    assert sorted(ended) == sorted(golden_ended)
    assert ended[-2:] == golden_ended[-2:]


def split(lines: list[str]) -> tuple[list[str], list[str]]:
    """Until the signal, and from then on."""
    (signal,) = [index for index, line in enumerate(lines) if SIGTERM in line]
    return lines[:signal], lines[signal:]
