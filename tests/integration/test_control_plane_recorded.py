"""A real proxy at the other end of a recorded conversation: it says what istiod's client said, and ends with its mesh."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.control_plane import START_DEADLINE, Proxy, Town
from tests.support.nodes import eventually
from ztunnel.testing import BackgroundIstiod
from ztunnel.testing.istiod import ADDRESS, AUTHORIZATION, FakeIstiod
from ztunnel.testing.istiod.recording import FromIstiod, Line, Player, read

if TYPE_CHECKING:
    from tests.support.nodes import Fields

pytestmark = pytest.mark.timeout(60)

CONVERSATIONS = Path(__file__).parents[1] / "vectors" / "istiod" / "conversations"


def told(lines: list[Line], type_url: str) -> set[str]:
    """The names that are there when all was said."""
    names: set[str] = set()
    for line in lines:
        if isinstance(line, FromIstiod) and line.response.type_url == type_url:
            names |= {resource.name for resource in line.response.resources}
            names -= set(line.response.removed)
    return names


def test_a_proxy_keeps_to_a_recorded_session_and_has_its_mesh(tmp_path: Path) -> None:
    (lines,) = read(CONVERSATIONS / "delta-session.jsonl")
    with (
        Town(tmp_path, "poda") as town,
        BackgroundIstiod(tmp_path) as istiod,
        ExitStack() as running,
    ):
        (player,) = istiod.call(lambda server: server.play([lines]))
        environment = istiod.environment("poda", namespace="default", account="sa-a")
        environment["PROXY_WORKLOAD_INFO"] = "default/poda/sa-a"
        proxy = Proxy(town, "poda", environment)
        running.push(proxy.__exit__)
        proxy.begin()
        istiod.wait(lambda server: _all_said(server, player), START_DEADLINE)
        proxy.wait_until_ready()
        assert player.mistakes == []
        # The last word is a service's waypoint; it is applied before it is acknowledged.
        eventually(lambda: _names(proxy, "workloads", "uid"), "the dump has workloads")
        addresses = _names(proxy, "workloads", "uid")
        addresses |= _names(proxy, "services", "namespace", "hostname")
        assert addresses == told(lines, ADDRESS)
        assert _names(proxy, "policies", "namespace", "name") == told(lines, AUTHORIZATION)
        updates = [line for line in lines if isinstance(line, FromIstiod)]
        policies = [line.response for line in updates if line.response.type_url == AUTHORIZATION]
        expected = [
            f"handling RBAC update {resource.name.rpartition('/')[2]}"
            for response in policies
            for resource in response.resources
        ]
        # Written a moment after it was applied.
        eventually(lambda: len(_said(proxy)) >= len(expected), "every policy is told of")
        assert [each["message"] for each in _said(proxy)] == expected
        # As upstream's, in the first stream.
        spans = {(each["level"], json.dumps(each["xds"])) for each in _said(proxy)}
        assert spans == {("info", '{"id": 1}')}


async def _all_said(server: FakeIstiod, player: Player) -> None:
    await server.observed.wait(lambda: player.done, "all of the recording", START_DEADLINE)


def _said(proxy: Proxy) -> list[Fields]:
    return [line for line in proxy.access.all() if line.get("scope") == "ztunnel::xds"]


def _names(proxy: Proxy, section: str, *keys: str) -> set[str]:
    return {"/".join(each[key] for key in keys) for each in proxy.config_dump()[section]}
