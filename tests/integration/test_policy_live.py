"""Policy that changes while connections run: what is no longer allowed is cut at once, all else goes on.

spec/reliability.md F33: exposure of a second at most after the node has the change (`examples/policy_cut.rs` measures it),
and no connection closed by mistake. The nodes read the mesh file again by themselves; nobody tells them to.
"""

from __future__ import annotations

import re
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.apps import Application, End, Heard, SocksReply, direct, through_socks5
from tests.support.nodes import Mesh, Node, as_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CUT = "connection closed due to policy change"
# Some milliseconds on two idle cores; without a cut the connection would last for as long as the applications like.
EXPOSURE = 10.0
RESET = Heard(b"", "ECONNRESET")


def policy(name: str, action: str, *matches: dict[str, Any], scope: str = "Namespace") -> Any:
    """An authorization whose rules are these matches, any of which will do; with none it matches nobody."""
    return {
        "name": name,
        "namespace": "default",
        "scope": scope,
        "action": action,
        "rules": [[[match]] for match in matches],
    }


CLIENT = {"principals": [{"Exact": "cluster.local/ns/default/sa/client"}]}
# An allow policy turns "allowed unless denied" into the opposite.
ALLOW_NOBODY = policy("allow-nobody", "Allow")
ALLOW_THE_CLIENT = policy("allow-the-client", "Allow", CLIENT)
DENY_THE_CLIENT = policy("deny-the-client", "Deny", CLIENT)


@dataclass(frozen=True)
class Pair:
    """Two nodes that read one mesh file, an application behind the far one, two ways in."""

    mesh: Mesh
    near: Node
    far: Node
    application: Application

    def connects(self) -> tuple[End, End]:
        """Both ends of a connection that stands."""
        target = self.near.forwards[as_text(self.application.address)]
        client, server = self.application.pair(partial(direct, target))
        goes_on(client, server)
        return client, server

    def changes(self, *policies: Any) -> float:
        """Write these policies, wait until the server's node has them, and give that moment."""
        self.mesh.policies[:] = policies
        return self.writes()

    def writes(self) -> float:
        """The same for any change of the mesh."""
        after = len(self.far.log)
        self.mesh.write()
        self.far.log.wait_for("mesh applied", after=after)
        return time.monotonic()

    def is_denied(self) -> None:
        """A new connection is refused by the server's node, and its log says by which policy."""
        after = len(self.far.access)
        with pytest.raises(SocksReply) as reply:
            through_socks5(self.near.socks5, *self.application.address)
        told = self.application.adopts(reply.value.connection)
        assert reply.value.code == 2
        assert told.hears() == RESET
        self.far.access.wait_for(after=after, error=re.compile("policy rejection"))
        self.near.access.wait_for(error=re.compile("401"))


@contextmanager
def nodes(folder: Path, *policies: Any) -> Iterator[Pair]:
    """Both nodes, and these policies from the start."""
    with Mesh(folder, network="127.1") as mesh, ExitStack() as stack:
        mesh.policies += policies
        mesh.workload("client")
        application = stack.enter_context(Application.listen(mesh.workload("server")))
        target = as_text(application.address)
        far = stack.enter_context(Node(mesh, "server"))
        near = stack.enter_context(Node(mesh, "client", forwards=[target], socks5=True))
        yield Pair(mesh, near, far, application)


def goes_on(client: End, server: End) -> None:
    """Bytes pass both ways."""
    client.says(b"still?")
    assert server.takes(6) == b"still?"
    server.says(b"still.")
    assert client.takes(6) == b"still."


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], [DENY_THE_CLIENT]),
        ([], [ALLOW_NOBODY]),
        ([ALLOW_THE_CLIENT], [ALLOW_NOBODY]),
        ([ALLOW_THE_CLIENT], [ALLOW_THE_CLIENT, DENY_THE_CLIENT]),
        (
            [policy("ports", "Allow", CLIENT)],
            [policy("ports", "Allow", {**CLIENT, "notDestinationPorts": ["PORT"]})],
        ),
    ],
    ids=[
        "a deny rule comes",
        "the first allow rule comes",
        "the allow rule goes",
        "a deny rule comes beside an allow rule",
        "the allow rule is edited",
    ],
)
def test_running_connection_is_cut_when_policy_forbids_it(
    tmp_path: Path, before: list[Any], after: list[Any]
) -> None:
    with nodes(tmp_path, *before) as pair:
        client, server = pair.connects()
        changed = pair.changes(*_with_port(after, pair.application.address[1]))
        assert client.hears() == RESET
        assert server.hears() == RESET
        took = time.monotonic() - changed
        assert took < EXPOSURE, f"cut {took:.2f} s after the change"
        line = pair.far.access.wait_for("connection complete", error=CUT)
        assert line["src.identity"] == "spiffe://cluster.local/ns/default/sa/client"
        pair.is_denied()


def test_bytes_of_a_cut_connection_stop_for_a_client_that_does_not_read(tmp_path: Path) -> None:
    with nodes(tmp_path) as pair:
        client, server = pair.connects()
        server.says_until_it_blocks(most=64 * 1024 * 1024)
        changed = pair.changes(ALLOW_NOBODY)
        assert server.says_until_it_breaks() == "ECONNRESET"
        took = time.monotonic() - changed
        assert took < EXPOSURE, f"cut {took:.2f} s after the change"
        assert client.hears().end == "ECONNRESET"


def test_connections_that_policy_still_allows_go_on(tmp_path: Path) -> None:
    """Adding, editing and removing what does not concern them closes nothing."""
    other = {"principals": [{"Exact": "cluster.local/ns/default/sa/somebody-else"}]}
    with nodes(tmp_path) as pair:
        ends = [pair.connects() for _ in range(5)]
        for policies in (
            [ALLOW_THE_CLIENT],
            [ALLOW_THE_CLIENT, policy("deny-others", "Deny", other)],
            [policy("allow-more", "Allow", CLIENT, other)],
            [],
        ):
            pair.changes(*policies)
            for client, server in ends:
                goes_on(client, server)
        assert not pair.far.access.all(error=CUT)


def test_traffic_passes_again_when_a_rule_allows_it(tmp_path: Path) -> None:
    with nodes(tmp_path, ALLOW_NOBODY) as pair:
        pair.is_denied()
        pair.changes(ALLOW_NOBODY, ALLOW_THE_CLIENT)
        client, server = pair.connects()
        server.says(b"welcome").closes()
        assert client.hears() == Heard(b"welcome", "FIN")


def test_broken_mesh_file_keeps_the_old_mesh_and_disturbs_nobody(tmp_path: Path) -> None:
    with nodes(tmp_path, ALLOW_THE_CLIENT) as pair:
        client, server = pair.connects()
        broken = {
            "unknown tunnel protocol": pair.mesh.path.read_text().replace('"HBONE"', '"HBNOE"', 1),
            "not YAML": "workloads: [{",
            "empty": "",
            "a directory of brackets": "[" * 5000,
        }
        for text in broken.values():
            afters = {node: len(node.log) for node in (pair.near, pair.far)}
            pair.mesh.write_text(text)
            for node, after in afters.items():
                line = node.log.wait_for(
                    "the mesh file has mistakes; the mesh stays as it is", after=after
                )
                assert line["mistakes"] >= 1
                # File, line and column: an editor can jump there.
                node.log.wait_for(re.compile(r"mesh\.yaml:\d+:\d+: "), after=after)
            goes_on(client, server)
            pair.connects()
        pair.changes(ALLOW_THE_CLIENT, DENY_THE_CLIENT)  # the next good file is taken
        assert client.hears() == RESET


def test_mesh_file_that_is_gone_changes_nothing_until_it_is_back(tmp_path: Path) -> None:
    with nodes(tmp_path) as pair:
        client, server = pair.connects()
        pair.mesh.path.unlink()
        pair.far.log.wait_for("the mesh file cannot be read; the mesh stays as it is")
        goes_on(client, server)
        pair.changes(ALLOW_NOBODY)
        assert client.hears() == RESET


@pytest.mark.parametrize("first", ["the policy", "the attachment"])
def test_policy_attached_to_the_workload_later_cuts_too(tmp_path: Path, first: str) -> None:
    """spec/dataplane.md §20.2 item 8: upstream judges by the workload as it was at connect time."""
    deny = policy("for-the-server", "Deny", CLIENT, scope="WorkloadSelector")
    with nodes(tmp_path) as pair:
        client, server = pair.connects()
        workload = pair.mesh.edit("server")
        if first == "the policy":
            pair.changes(deny)
            goes_on(client, server)
            workload["authorizationPolicies"] = ["default/for-the-server"]
            changed = pair.writes()
        else:
            workload["authorizationPolicies"] = ["default/for-the-server"]
            pair.writes()
            goes_on(client, server)
            changed = pair.changes(deny)
        assert client.hears() == RESET
        assert server.hears() == RESET
        took = time.monotonic() - changed
        assert took < EXPOSURE, f"cut {took:.2f} s after the change"
        pair.is_denied()


def test_dry_run_policy_cuts_nothing(tmp_path: Path) -> None:
    with nodes(tmp_path) as pair:
        client, server = pair.connects()
        pair.changes({**DENY_THE_CLIENT, "dryRun": True})
        goes_on(client, server)
        pair.connects()


def _with_port(policies: list[Any], port: int) -> list[Any]:
    """The application's port, which is known only when it listens, in the place of `PORT`."""

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [fill(inner) for inner in value]
        return port if value == "PORT" else value

    return [fill(policy) for policy in policies]
