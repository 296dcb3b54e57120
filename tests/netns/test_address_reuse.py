"""A pod's address that another pod has now (F07): not a byte reaches the wrong identity."""

from __future__ import annotations

import re
import select
import socket
from typing import TYPE_CHECKING

import pytest

from tests.netns.pods import QUICK_PING
from tests.support.apps import DEADLINE, Heard

if TYPE_CHECKING:
    from tests.netns.pods import Pod, Pods

pytestmark = pytest.mark.root


def test_the_new_owner_of_an_address_is_not_taken_for_the_old_one(pods: Pods) -> None:
    client, server, thief = reuse(pods)
    address = server.address
    with pods.running(), listener(thief) as stolen:
        with server.listens(8080) as app:
            ours, theirs = app.pair(lambda: client.dials((address, 8080)))
            ours.says(b"question").finishes()
            assert theirs.hears() == Heard(b"question", "FIN")
            theirs.says(b"answer").finishes()
            assert ours.hears() == Heard(b"answer", "FIN")
        # The tunnel to the old pod is still in the pool, and nobody is told that it leads nowhere.
        move(address, server, thief, client)
        # Who has said nothing is taken to the new one; bytes that went into the old tunnel stay there.
        for refused, said in enumerate((b"", b"secret"), start=1):
            seen = len(client.node.access)
            assert client.tries((address, 8080), said) == Heard(b"", "ECONNRESET")
            line = client.node.access.wait_for(
                "connection complete", after=seen, error=re.compile("identity")
            )
            assert "spiffe://cluster.local/ns/default/sa/thief" in line["error"]
            refusals = client.node.metrics().total("ztunnel_refusals_total", reason="wrong_san")
            assert refusals == refused
            assert not waiting(stolen)
        # Once the mesh knows, the address is as good as any other.
        pods.mesh.edit("server")["workloadIps"] = ["10.77.0.88"]
        pods.mesh.edit("thief")["workloadIps"] = [address]
        after = [(pod, len(pod.node.log)) for pod in (client, thief)]
        pods.mesh.write()
        for pod, seen in after:
            pod.node.log.wait_for("mesh applied", after=seen)
        with client.dials((address, 8080)) as application, stolen.accept()[0] as accepted:
            application.sendall(b"question")
            assert accepted.recv(100) == b"question"


def test_a_running_connection_does_not_move_to_the_new_owner(pods: Pods) -> None:
    client, server, thief = reuse(pods)
    address = server.address
    with pods.running(), listener(thief) as stolen, server.listens(8080) as app:
        ours, theirs = app.pair(lambda: client.dials((address, 8080)))
        ours.says(b"question")
        assert theirs.takes(8) == b"question"
        move(address, server, thief, client)
        ours.says(b"secret")
        assert ours.hears() == Heard(b"", "ECONNRESET")
        assert not waiting(stolen)


def reuse(pods: Pods) -> tuple[Pod, Pod, Pod]:
    """Client, server, and who will have the server's address."""
    # One worker: its pool is the only one, so the next connection takes the tunnel of the first.
    client = pods.add("client", deadlines=QUICK_PING, workers=1)
    return client, pods.add("server"), pods.add("thief")


def move(address: str, old: Pod, new: Pod, client: Pod) -> None:
    """Take the address from one pod and give it to another; the client's kernel learns of it."""
    old.host.loses(address)
    new.host.takes(address)
    client.host.ip("neigh", "flush", "dev", "eth0")


def listener(pod: Pod) -> socket.socket:
    """What the wrong connection would come to."""
    opened = pod.host.call(socket.create_server, ("", 8080))
    opened.settimeout(DEADLINE)
    return opened


def waiting(stolen: socket.socket) -> bool:
    """Whether a connection waits to be accepted."""
    return bool(select.select([stolen], [], [], 0)[0])
