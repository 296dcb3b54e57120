"""h2spec, the conformance suite for HTTP/2 servers, against our 15008: all cases, the strict ones too.

It cannot show a client certificate, so a relay originates TLS for it; and it sends GET and POST, which our
proxy answers with 400: an ordinary response to nearly every case. The few where it is not are in `MOOT`.
"""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree as ET

import pytest

from tests.interop import tools
from tests.interop.relay import originate_tls
from tests.support.certs import Authority
from tests.support.nodes import Mesh, Node

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    Address = tuple[str, int]

pytestmark = [pytest.mark.interop, pytest.mark.asyncio, pytest.mark.timeout(240)]

CLIENT = "spiffe://cluster.local/ns/default/sa/client"

NO_BODY = (
    "wants DATA in the answer to a GET. A proxy that serves CONNECT alone answers it with 400 and no body; the "
    "same rule, with DATA on a CONNECT stream, is held by "
)
# Named as h2spec numbers them. A case that is here and passes fails the test, so that the list stays honest.
MOOT = {
    "generic/2/2: Sends a WINDOW_UPDATE frame on half-closed (remote) stream": NO_BODY
    + "test_h2_differential.py (windows that open while our side is the only one that sends)",
    "generic/2/3: Sends a PRIORITY frame on half-closed (remote) stream": NO_BODY
    + "test_h2_differential.py (PRIORITY at any time)",
    "http2/6.5.3/1: Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE": NO_BODY
    + "test_h2_differential.py (INITIAL_WINDOW_SIZE twice in one frame)",
    "http2/6.9.1/1: Sends SETTINGS frame to set the initial window size to 1 and sends HEADERS frame": NO_BODY
    + "test_h2_differential.py (a window of one byte)",
    "http2/6.9.2/1: Changes SETTINGS_INITIAL_WINDOW_SIZE after sending HEADERS frame": NO_BODY
    + "test_h2_differential.py (INITIAL_WINDOW_SIZE changed with a stream open)",
    "http2/6.9.2/2: Sends a SETTINGS frame for window size to be negative": NO_BODY
    + "test_h2_differential.py (a window below zero)",
}

# What h2spec 2.2.1 has with `--strict`. Fewer would mean that it stopped early, and its silence nothing.
CASES = 146


class Case(NamedTuple):
    name: str
    complaint: str | None


async def test_every_case_passes_or_is_moot_for_connect(tmp_path: Path) -> None:
    program = tools.h2spec()
    with Mesh(tmp_path, network="127.3") as mesh:
        near, _ = mesh.workload("client"), mesh.workload("server")
        # Frames of 16 KiB: "a frame that exceeds SETTINGS_MAX_FRAME_SIZE" has 20 KB here, whatever the setting says.
        with Node(mesh, "server", http2={"frameSize": 16384}) as node:
            leaf = Authority.of_node(tmp_path / "ca").leaf(CLIENT)
            context = leaf.client_context(tmp_path / "leaf")
            async with originate_tls(near, node.bound["inbound"], context) as port:
                report = tmp_path / "report.xml"
                said = await _run(program, (near, port), report)
    cases = _read(report, said)
    failed = {case.name: case.complaint for case in cases if case.complaint is not None}
    unexpected = {name: why for name, why in failed.items() if name not in MOOT}
    assert not unexpected, _table(unexpected)
    assert sorted(failed) == sorted(MOOT), "a case that is called moot passes, or is gone"
    assert len(cases) >= CASES


async def _run(program: Path, target: Address, report: Path) -> str:
    where = ["-h", target[0], "-p", str(target[1])]
    process = await asyncio.create_subprocess_exec(
        *[str(program), "--strict", "--timeout", "3", "--junit-report", str(report), *where],
        *["generic", "http2", "hpack"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return said.decode()


def _read(report: Path, said: str) -> list[Case]:
    """The junit report. It does not number the cases, but they come in the order of their numbers."""
    assert report.exists(), said
    cases = []
    for suite in ET.parse(report).getroot().iter("testsuite"):  # noqa: S314 - our own child wrote it
        for number, case in enumerate(suite.iter("testcase"), start=1):
            marks = [mark for mark in case if mark.tag in ("failure", "error", "skipped")]
            name = f"{case.get('package')}/{number}: {case.get('classname')}"
            why = [" ".join([mark.tag, *" ".join(mark.itertext()).split()]) for mark in marks]
            cases.append(Case(name, "; ".join(why) or None))
    return cases


def _table(failed: Mapping[str, str | None]) -> str:
    return "\n".join(f"{name}\n    {why}" for name, why in failed.items())
