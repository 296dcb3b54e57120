"""What either one answers to a scripted peer, and what it logs of it: request by request, and certificate by certificate.

The peer speaks HTTP/2 by hand (`tests/support/hbone_peer.py`) with a certificate of the town's authority. Upstream's
answers are the measure of ours (spec/dataplane.md §3.2, §3.6, §9.4).
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hyperframe.frame import DataFrame

from tests.interop.conftest import make_town
from tests.interop.upstream import CLIENT, DENIED, ECHO, SHUT, comparable
from tests.netns.namespaces import Network
from tests.support.hbone_peer import END_STREAM, Ended, Wire, connect
from tests.support.nodes import eventually

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from tests.interop.upstream import Town
    from tests.support.hbone_peer import Field

# The first test waits for towns on both sides.
pytestmark = [pytest.mark.root, pytest.mark.upstream, pytest.mark.timeout(120)]

Fields = list["Field"]
WEB = "web.default.svc.cluster.local"
BAGGAGE = (
    "k8s.cluster.name=far,k8s.namespace.name=shop,k8s.deployment.name=buyer,"
    "service.name=buy,service.version=v9,cloud.region=r9,cloud.availability_zone=z9"
)


def at(port: int, *more: Field) -> Callable[[Town], Fields]:
    """CONNECT to a port of the server."""
    return lambda town: [*connect(f"{town.server.address}:{port}"), *more]


def to(authority: str, *more: Field) -> Callable[[Town], Fields]:
    """CONNECT to whatever it is."""
    return lambda _: [*connect(authority), *more]


def asks(*fields: Field) -> Callable[[Town], Fields]:
    """Exactly these fields."""
    return lambda _: list(fields)


# What has a port of the web service in it is told of a service by ours alone (spec/dataplane.md §20.2.14).
REQUESTS: dict[str, Callable[[Town], Fields]] = {
    "the pod": at(ECHO),
    "a service by name": to(f"{WEB}:80"),
    "a port that the service lacks": to(f"{WEB}:81"),
    "a name in capitals": to(f"{WEB.upper()}:80"),
    "an unknown name": to("nobody.default.svc.cluster.local:80"),
    "somebody else's address": to("10.77.0.9:8080"),
    "an unknown address": to("203.0.113.7:8080"),
    "an authority without a port": to("10.77.0.2"),
    "a name without a port": to(WEB),
    "a closed port": at(SHUT),
    "a denied port": at(DENIED),
    "a port of the proxy's (15008)": at(15008),
    "a port of the proxy's (15006)": at(15006),
    "a port of the proxy's (15001)": at(15001),
    "GET": asks((":method", "GET"), (":scheme", "https"), (":authority", "a:1"), (":path", "/")),
    "POST": asks((":method", "POST"), (":scheme", "https"), (":authority", "a:1"), (":path", "/")),
    "CONNECT with a path": to("10.77.0.2:8080", (":path", "/")),
    "CONNECT with a scheme and a path": to("10.77.0.2:8080", (":scheme", "https"), (":path", "/")),
    "baggage that is not believed without a gateway": at(ECHO, ("baggage", BAGGAGE)),
    "baggage by a gateway": at(ECHO, ("baggage", BAGGAGE), ("x-forwarded-network", "away")),
    "a gateway without baggage": at(ECHO, ("x-forwarded-network", "away")),
    "a gateway of the same network": at(ECHO, ("baggage", BAGGAGE), ("x-forwarded-network", "")),
    "baggage with blanks": at(
        ECHO,
        ("baggage", "k8s.namespace.name = shop, service.name=a=b"),
        ("x-forwarded-network", "away"),
    ),
    "baggage that is none": at(ECHO, ("baggage", ",;=,=,x"), ("x-forwarded-network", "away")),
    "forwarded for a service": at(ECHO, ("forwarded", f"for=1.2.3.4;host={WEB}")),
    "a trace that is none": at(ECHO, ("traceparent", "00-1-2-3")),
}
BELIEVED = {
    "another account": ("spiffe://cluster.local/ns/shop/sa/buyer",),
}
REFUSED = {
    "another trust domain": ("spiffe://elsewhere.local/ns/default/sa/client",),
    "a name that is not of SPIFFE": ("https://cluster.local/ns/default/sa/client",),
    "a SPIFFE name with other parts": ("spiffe://cluster.local/client",),
}


class Seen(NamedTuple):
    """Of one request: the answer's fields or the end of the stream, and the line about it."""

    answer: object
    lines: list[Any]


@contextmanager
def answering(town: Town) -> Iterator[None]:
    """An application that ends its side when its peer has."""
    with town.server.listens(ECHO) as application:
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                with suppress(OSError):
                    end = application.accepts()
                    end.hears()
                    end.closes()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            application.stops_listening()
            thread.join(1)


async def ask(town: Town, context: ssl.SSLContext, fields: Fields) -> object:
    """One request on a connection of its own, to its end."""
    try:
        async with await Wire.meet((town.server.address, 15008), context) as wire:
            head = wire.head(*fields)
            await wire.send(head)
            answer = await wire.answer(head.stream_id)
            if (b":status", b"200") in answer:
                await wire.send(DataFrame(head.stream_id, flags=[END_STREAM]))
                await wire.until(lambda frame: END_STREAM in frame.flags)
            return [(name, value) for name, value in answer if name != b"date"]
    except Ended as end:
        return str(end)


def look(town: Town) -> dict[str, Seen]:
    """Ask everything."""
    seen = {}
    good = town.peer(CLIENT)
    with answering(town):
        cases = [(name, good, fields(town)) for name, fields in REQUESTS.items()]
        cases += [
            (name, town.peer(*uris), connect(f"{town.server.address}:{ECHO}"))
            for name, uris in (BELIEVED | REFUSED).items()
        ]
        for name, context, fields in cases:
            before = len(town.far.told())
            answer = town.stranger.call(asyncio.run, ask(town, context, fields))
            if "path" not in name:
                with suppress(pytest.fail.Exception):
                    eventually(lambda: len(town.far.told()) > before, "a line", within=3)  # noqa: B023
            seen[name] = Seen(answer, [comparable(line) for line in town.far.told()[before:]])
    return seen


@pytest.fixture(scope="module")
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Seen]]:
    """Either one as the receiver."""
    seen = {}
    for side in ("ours", "upstream"):
        folder = tmp_path_factory.mktemp(side)
        with (
            Network() as network,
            make_town(request.config, f"{side}-to-{side}", network, folder) as town,
            town.running(),
        ):
            seen[side] = look(town)
    return seen


@pytest.mark.parametrize("named", [*REQUESTS, *BELIEVED])
def test_the_answer_is_upstreams(both: dict[str, dict[str, Seen]], named: str) -> None:
    assert both["ours"][named].answer == both["upstream"][named].answer


@pytest.mark.parametrize("named", [*REQUESTS, *BELIEVED])
def test_the_log_line_is_upstreams(both: dict[str, dict[str, Seen]], named: str) -> None:
    ours, upstreams = (
        [[field for field in line if field[0] != "dst.service"] for line in both[side][named].lines]
        for side in ("ours", "upstream")
    )
    assert ours == upstreams


@pytest.mark.parametrize("named", REFUSED)
def test_a_certificate_that_upstream_refuses_is_refused_and_told_of_in_the_same_fields(
    both: dict[str, dict[str, Seen]], named: str
) -> None:
    """The error begins alike; then upstream writes a structure of its TLS library, and ours a sentence."""
    told = []
    for side in ("ours", "upstream"):
        answer, (line,) = both[side][named]
        assert isinstance(answer, str), "no answer in HTTP"
        fields = dict(line)
        error = fields.pop("error")
        assert error.startswith("tls handshake error: ")
        told.append(list(fields.items()))
    assert told[0] == told[1]
