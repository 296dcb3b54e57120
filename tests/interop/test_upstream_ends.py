"""How conversations between ours and upstream end: shutdown, liveness, resets, a side that dies.

Where upstream gives an application a FIN and ours a RST, the rows say so (spec/dataplane.md §20.2.20).
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.interop.upstream import ALSO_CONTROL, ECHO, OURS, says_hello
from tests.support.apps import End, Heard, direct
from tests.support.nodes import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.interop.upstream import Proxy, Town

pytestmark = [pytest.mark.root, pytest.mark.upstream, pytest.mark.timeout(60), ALSO_CONTROL]

REFUSED = "io error: Connection refused (os error 111)"
DRAINED = "connection closed due to connection drain"
FIN, RST = Heard(b"", "FIN"), Heard(b"", "ECONNRESET")
# Upstream gives up a peer that leaves its first PING, sent after 10 s, unanswered for 20 s.
PATIENCE = 35.0


@contextmanager
def talking(town: Town) -> Iterator[tuple[End, End]]:
    """A client and a server in mid-conversation."""
    with town.server.listens(ECHO) as application:
        near, far = application.pair(lambda: town.client.dials((town.server.address, ECHO)))
        goes_on(near, far)
        yield near, far


def goes_on(near: End, far: End) -> None:
    """One round trip."""
    near.says(b"ping")
    assert far.takes(4) == b"ping"
    far.says(b"pong")
    assert near.takes(4) == b"pong"


def has_closed_its_port(town: Town) -> bool:
    """Whether nobody can make a tunnel to the server any more."""
    try:
        town.stranger.call(direct, (town.server.address, 15008)).close()
    except ConnectionRefusedError:
        return True
    return False


def refuses(town: Town) -> bool:
    """Whether a new connection finds the server's proxy gone: no old tunnel takes it."""
    before = len(town.near.told())
    assert town.client.tries((town.server.address, 9)).data == b""
    eventually(lambda: len(town.near.told()) > before, "the connection's line")
    return town.near.told()[before].get("error") == REFUSED


def test_a_receiver_that_shuts_down_finishes_what_is_open_and_takes_nothing_new(town: Town) -> None:
    with town.running(CONNECTION_TERMINATION_DEADLINE="60s"):
        with talking(town) as (near, far):
            town.far.signal(signal.SIGTERM)
            eventually(lambda: has_closed_its_port(town), "the port is closed")
            eventually(lambda: refuses(town), "the tunnel is given up for new connections")
            goes_on(near, far)
            near.finishes()
            assert far.hears() == FIN
            far.says(b"last words").finishes()
            assert near.hears() == Heard(b"last words", "FIN")
        if town.far.side == OURS:
            assert town.far.wait() == 0
        else:
            # Its way to the authority is captured and its own, so it waits for itself until the deadline.
            town.far.kill()
        town.far.start()
        says_hello(town, town.web)


def test_a_client_that_shuts_down_finishes_what_is_open(town: Town) -> None:
    with town.running(CONNECTION_TERMINATION_DEADLINE="60s"):
        with talking(town) as (near, far):
            town.near.signal(signal.SIGTERM)
            eventually(lambda: no_longer_ready(town.near), "readiness is closed")
            goes_on(near, far)
            far.says(b"last words").finishes()
            assert near.hears() == Heard(b"last words", "FIN")
            near.says(b"and mine").finishes()
            assert far.hears() == Heard(b"and mine", "FIN")
        line = town.far.access.wait_for("connection complete", direction="inbound")
        assert line["level"] == "info"


def no_longer_ready(proxy: Proxy) -> bool:
    """Whether it says so, or nothing any more."""
    try:
        return proxy.ask("GET", "/healthz/ready", "readiness").status != 200
    except OSError:
        return True


def test_what_is_open_at_the_deadline_of_the_receiver_is_cut(town: Town) -> None:
    with town.running(CONNECTION_TERMINATION_DEADLINE="1s"), talking(town) as (near, far):
        town.far.signal(signal.SIGTERM)
        assert near.hears() == (RST if town.near.side == OURS else FIN)
        assert far.hears().data == b""
        assert town.far.wait() == 0


def test_what_is_open_at_the_deadline_of_the_client_is_cut(town: Town) -> None:
    with town.running(CONNECTION_TERMINATION_DEADLINE="1s"), talking(town) as (near, far):
        town.near.signal(signal.SIGTERM)
        assert far.hears() == (RST if town.far.side == OURS else FIN)
        assert near.hears().data == b""
        assert town.near.wait() == 0
        line = town.near.access.wait_for(dst_hbone_addr=f"{town.server.address}:{ECHO}")
        assert (line["level"], line["error"]) == ("error", DRAINED)


def test_a_server_that_resets(calm: Town) -> None:
    with talking(calm) as (near, far):
        far.resets()
        assert near.hears() == FIN  # one upstream on the way is enough


def test_a_client_that_resets(calm: Town) -> None:
    with talking(calm) as (near, far):
        near.resets()
        assert far.hears() == FIN


def test_a_receiver_that_dies(town: Town) -> None:
    with town.running(), talking(town) as (near, far):
        far.says(b"half an ans")
        assert near.takes(11) == b"half an ans"
        town.far.kill()
        assert near.hears() == (RST if town.near.side == OURS else FIN)


def test_a_client_proxy_that_dies(town: Town) -> None:
    with town.running(), talking(town) as (near, far):
        near.says(b"half a quest")
        assert far.takes(12) == b"half a quest"
        town.near.kill()
        assert far.hears() == (RST if town.far.side == OURS else FIN)


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_quiet_tunnel_lives_on_by_its_pings(calm: Town) -> None:
    with talking(calm) as (near, far):
        near.socket.settimeout(PATIENCE)
        assert near.hears() == Heard(b"", "nothing more")
        goes_on(near, far)
