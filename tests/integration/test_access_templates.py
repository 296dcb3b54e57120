"""Access lines in Envoy's format: `grep '^\\['` finds one for each connection and nothing else (spec/users.md #23)."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.apps import Application, direct, hears_at_once
from tests.support.nodes import Mesh, Node, as_text, eventually

if TYPE_CHECKING:
    from pathlib import Path

# The columns of Istio's default format, and ours behind them.
COLUMNS = re.compile(
    r"""
    \[(?P<start>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)\]\ "(?P<request>[^"]*)"
    \ (?P<code>\d+)\ (?P<flags>\S+)\ (?P<details>\S+)\ (?P<termination>\S+)\ "(?P<failure>(?:[^"\\]|\\.)*)"
    \ (?P<received>\d+)\ (?P<sent>\d+)\ (?P<duration>\d+)\ (?P<service_time>\S+)
    \ "(?P<forwarded>[^"]*)"\ "(?P<agent>[^"]*)"\ "(?P<id>[^"]*)"\ "(?P<authority>(?:[^"\\]|\\.)*)"
    \ "(?P<upstream>[^"]*)"\ (?P<cluster>\S+)\ (?P<upstream_local>\S+)\ (?P<local>\S+)\ (?P<remote>\S+)
    \ (?P<server_name>\S+)\ (?P<route>\S+)\ (?P<direction>inbound|outbound)\ (?P<kind>\S+)\ "(?P<peer>[^"]*)"
    """,
    re.VERBOSE,
)
ACCOUNT = "spiffe://cluster.local/ns/default/sa"


def lines(node: Node) -> list[dict[str, str]]:
    """What `grep '^\\['` finds, in columns."""
    found = [line for line in node.access.text if line.startswith("[")]
    parsed = [COLUMNS.fullmatch(line.rstrip("\n")) for line in found]
    assert None not in parsed, found
    return [match.groupdict() for match in parsed if match]


def has_told(node: Node, count: int) -> bool:
    """Whether so many connections have a line."""
    return len(lines(node)) == count


@pytest.mark.parametrize("style", ["json", "plain", "off"])
def test_every_connection_has_one_line_and_nothing_else_looks_like_one(
    tmp_path: Path, style: str
) -> None:
    told = {"format": style, "template": "envoy"}
    with Mesh(tmp_path, network="127.3") as mesh:
        mesh.workload("client")
        server = mesh.workload("server")
        closed = f"{server}:9"
        with Application.listen(server) as application:
            target = as_text(application.address)
            with (
                Node(mesh, "server", logLevel="debug", accessLog=told) as far,
                Node(mesh, "client", forwards=[target, closed], accessLog=told) as near,
            ):
                client, other = application.pair(lambda: direct(near.forwards[target]))
                client.says(b"x" * 700).finishes()
                assert other.hears().data == b"x" * 700
                other.says(b"y" * 80).finishes()
                assert client.hears().data == b"y" * 80
                assert hears_at_once(near.forwards[closed]).data == b""
                if style == "off":
                    assert near.terminate() == far.terminate() == 0
                    assert lines(near) == lines(far) == []
                    return
                for node in (near, far):
                    eventually(partial(has_told, node, 2), "two connections ended")
                good, bad = lines(near)
                assert (good["request"], good["code"], good["flags"]) == ("- - -", "0", "-")
                assert (good["received"], good["sent"]) == ("700", "80")
                assert good["upstream"] == f"{server}:15008"
                assert good["cluster"] == f"outbound_tunnel_clus_{ACCOUNT}/client"
                assert good["local"] == good["authority"] == target
                assert (good["direction"], good["kind"]) == ("outbound", "tunnel")
                assert good["peer"] == f"{ACCOUNT}/server"
                assert bad["flags"] == "UF"
                assert bad["failure"] != "-"
                good, bad = lines(far)
                assert (good["request"], good["code"], good["flags"]) == ("CONNECT - HTTP/2", "200", "-")  # fmt: skip
                assert (good["received"], good["sent"]) == ("700", "80")
                assert good["details"] == "via_upstream"
                assert good["upstream"] == target
                assert good["peer"] == f"{ACCOUNT}/client"
                assert (bad["code"], bad["flags"]) == ("0", "UF")
                assert "refused" in bad["failure"]
                # What else stands in the same stream is as it is without.
                others = [line for line in far.access.text if not line.startswith("[")]
                assert others
                if style == "json":
                    assert all(json.loads(line)["scope"] != "access" for line in others)
                else:
                    assert all(re.match(r"\d{4}-\d\d-\d\dT", line) for line in others)


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    with Mesh(tmp_path, network="127.3") as mesh:
        mesh.workload("client")
        server = mesh.workload("server")
        with Application.listen(server) as application:
            target = as_text(application.address)
            node = Node(mesh, "client", forwards=[target], accessLog={"format": "off"})
            launch = node.launch
            node.launch = lambda *words: launch(*words, "--log-template", "envoy")  # type: ignore[method-assign]
            with Node(mesh, "server"), node:
                client, other = application.pair(lambda: direct(node.forwards[target]))
                client.closes()
                other.closes()
                eventually(partial(has_told, node, 1), "the connection ended")
