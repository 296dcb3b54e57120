"""Policy on captured traffic: by the client's address and by its namespace, at the start and while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.apps import Heard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.netns.pods import Pod, Pods
    from tests.support.apps import Application, End

pytestmark = pytest.mark.root

REJECTED = "connection closed due to policy rejection: allow policies exist, but none allowed"
DENIED = "connection closed due to policy rejection: explicitly denied by: default/deny"
CHANGED = "connection closed due to policy change"


class Three:
    """One server, a friend in its namespace, and somebody from another."""

    def __init__(self, pods: Pods) -> None:
        self.pods = pods
        self.friend = pods.add("friend")
        self.other = pods.add("other", namespace="elsewhere")
        self.server = pods.add("server")
        self.app: Application

    def apply(self, *policies: dict[str, object]) -> None:
        """Give every node these policies and no others; the server's has them afterwards."""
        log = self.server.node.log
        after = len(log)
        self.pods.mesh.policies = list(policies)
        self.pods.mesh.write()
        log.wait_for("mesh applied", after=after)

    def connect(self, client: Pod) -> tuple[End, End]:
        """A connection that policy allows: both ends, after a word in each direction."""
        ours, theirs = self.app.pair(lambda: client.dials((self.server.address, 8080)))
        ours.says(b"question")
        assert theirs.takes(8) == b"question"
        theirs.says(b"answer")
        assert ours.takes(6) == b"answer"
        return ours, theirs

    def refuse(self, client: Pod, why: str) -> None:
        """A connection that policy does not allow: a RST for the client, nothing for the server."""
        after = len(self.server.node.access)
        assert client.tries((self.server.address, 8080)) == Heard(b"", "ECONNRESET")
        line = self.server.node.access.wait_for("connection complete", after=after, error=why)
        assert line["src.addr"].startswith(client.address)
        # The client's own node is told no more than this.
        client.node.access.wait_for("connection complete", error="http status: 401 Unauthorized")


@pytest.fixture
def three(pods: Pods) -> Iterator[Three]:
    """Running, without a policy."""
    three = Three(pods)
    with pods.running(), three.server.listens(8080) as three.app:
        yield three


def test_only_an_allowed_source_address_passes(three: Three) -> None:
    address = f"{three.friend.address}/32"
    three.apply(three.pods.mesh.policy("allow", "Allow", {"sourceIps": [address]}))
    three.connect(three.friend)
    three.refuse(three.other, REJECTED)


def test_only_an_allowed_namespace_passes(three: Three) -> None:
    three.connect(three.other)  # as long as nobody has said anything
    allow = three.pods.mesh.policy("allow", "Allow", {"namespaces": [{"Exact": "default"}]})
    three.apply(allow)
    three.connect(three.friend)
    three.refuse(three.other, REJECTED)


def test_a_denial_cuts_the_connections_it_is_about_and_no_others(three: Three) -> None:
    ours, theirs = three.connect(three.other)
    friends, with_friends = three.connect(three.friend)
    deny = three.pods.mesh.policy("deny", "Deny", {"namespaces": [{"Exact": "elsewhere"}]})
    three.apply(deny)
    assert ours.hears() == Heard(b"", "ECONNRESET")
    assert theirs.hears() == Heard(b"", "ECONNRESET")
    three.server.node.access.wait_for("connection complete", error=CHANGED)
    three.refuse(three.other, DENIED)
    friends.says(b"still there?").finishes()
    assert with_friends.hears() == Heard(b"still there?", "FIN")
    refusals = three.server.node.metrics().total("ztunnel_refusals_total", reason="policy")
    assert refusals == 1
    three.apply()
    three.connect(three.other)


def test_the_address_that_policy_sees_is_the_clients_also_without_original_source(
    pods: Pods,
) -> None:
    client = pods.add("client")
    server = pods.add("server", originalSource=False)
    match = {"sourceIps": [f"{server.address}/32"]}
    pods.mesh.policies = [pods.mesh.policy("allow", "Allow", match)]
    with pods.running(), server.listens(8080):
        assert client.tries((server.address, 8080)) == Heard(b"", "ECONNRESET")
        server.node.access.wait_for("connection complete", error=REJECTED)
