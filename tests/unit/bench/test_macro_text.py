"""What the side-by-side benchmark tells its subjects, and how it reads what comes back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
import yaml

from bench.macro import __main__ as command
from bench.macro import mesh, plot, tunnels
from bench.macro.envoy import far_config, near_config, tls_context
from bench.macro.peers import Command
from bench.macro.rows import ROWS
from bench.macro.stats import Sample
from bench.macro.table import Results

if TYPE_CHECKING:
    import argparse


def test_the_mesh_has_two_workloads_of_the_tunnel_and_the_services_asked_for() -> None:
    whole = yaml.safe_load(mesh.local_config(services=300))
    near, far = whole["workloads"]
    assert {near["protocol"], far["protocol"]} == {"HBONE"}
    assert near["workloadIps"] == ["10.78.0.1"]
    assert len(whole["services"]) == len(far["services"]) == 300
    assert whole["services"][256]["vips"] == ["/10.78.10.1"]
    # Ports are numbers to upstream's reader, in keys too.
    assert whole["services"][0]["ports"] == {80: 8080}


def test_a_peer_is_told_what_dedicated_mode_needs_and_what_a_row_adds() -> None:
    told = mesh.environment(
        mesh.NEAR,
        config=Path("mesh.yaml"),
        ca_root=Path("root.pem"),
        workers=2,
        more={"EXTRA": "1"},
    )
    assert told["PROXY_MODE"] == "dedicated"
    assert told["PROXY_WORKLOAD_INFO"] == "default/client/client"
    assert told["XDS_ADDRESS"] == ""
    assert told["PACKET_MARK"] == "1337"
    assert told["EXTRA"] == "1"
    assert mesh.NEAR.identity == "spiffe://cluster.local/ns/default/sa/client"


def test_a_command_is_named_by_its_whole_path() -> None:
    peer = Command.parse(f"ours={sys.executable} proxy 'a b'")
    assert (peer.name, peer.words) == ("ours", (sys.executable, "proxy", "a b"))


@pytest.mark.parametrize("text", ["ours", "=x", "ours=", "ours=no-such-program-here proxy"])
def test_what_is_not_name_and_command_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="peer"):
        Command.parse(text)


def asked(*words: str) -> argparse.Namespace:
    return command.parser().parse_args([*words, "--load", "load"])


def test_pairs_are_made_of_the_peers_that_are_there() -> None:
    one, two = f"a={sys.executable}", f"b={sys.executable}"
    plan = command.plan_of(asked("--peer", one, "--peer", two, "--pair", "a:b", "--rows", "C2,B1"))
    assert [subject.name for subject in plan.subjects] == ["a", "b", "a:b"]
    assert [row.id for row in plan.rows] == ["B1", "C2", "C2"]
    with pytest.raises(ValueError, match="NEAR:FAR"):
        command.plan_of(asked("--peer", one, "--pair", "a:c"))
    with pytest.raises(ValueError, match="no row Z9"):
        command.plan_of(asked("--peer", one, "--rows", "Z9"))


def test_titles_of_rows_differ() -> None:
    assert len({row.title for row in ROWS}) == len(ROWS)


def test_envoy_takes_the_row_s_number_of_streams() -> None:
    tls = tls_context(Path("chain.pem"), Path("key.pem"), Path("root.pem"))
    assert '"max_concurrent_streams": 1,' in json.dumps(near_config(tls, 1))
    assert '"max_concurrent_streams": 100,' in json.dumps(far_config(tls, 100))


SS = """\
0      0          10.78.0.1:40192    10.78.0.2:15008  cubic wscale:10,10 rto:204 bytes_sent:131293 bytes_acked:131294
0      0          10.78.0.1:40200    10.78.0.2:15008  cubic wscale:10,10 rto:204 segs_out:1
"""


def test_bytes_sent_are_read_for_each_tunnel() -> None:
    assert tunnels.parse(SS) == {"40192": 131293, "40200": 0}


SVG = "{http://www.w3.org/2000/svg}"


def test_the_table_and_the_bars_show_medians_ratios_and_what_failed() -> None:
    results = Results(
        stamp="today",
        machine={"cores": 2},
        subjects=["ours", "other"],
        titles={"bulk": "B1: bulk"},
        samples=[
            Sample(round=0, row="bulk", subject="direct", figures={"Gbit/s": 30.0}),
            Sample(round=0, row="bulk", subject="ours", figures={"Gbit/s": 10.0, "CPU s/GiB": 1.0}),
            Sample(round=0, row="bulk", subject="other", figures={"Gbit/s": 5.0, "CPU s/GiB": 2.0}),
            Sample(round=1, row="bulk", subject="other", error="it\nended"),
        ],
    )
    text = results.markdown()
    bars = ET.fromstring(plot.svg(results))  # noqa: S314 - our own text
    widths = [float(bar.attrib["width"]) for bar in bars.iter(f"{SVG}rect") if "x" in bar.attrib]
    assert widths[:3] == pytest.approx([widths[0], widths[0] / 3, widths[0] / 6], abs=0.1)
    assert "| | direct | ours | other | ours ÷ other |" in text
    assert "| Gbit/s | 30.0 | 10.0 | 5.00 | 2.00 |" in text
    assert "| CPU s/GiB |  | 1.00 | 2.00 | 0.50 |" in text
    assert "* round 1, bulk, other: it / ended" in text
    assert json.loads(results.json())["samples"][1]["figures"]["CPU s/GiB"] == 1.0
