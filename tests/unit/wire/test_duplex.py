"""What is said of a server that no stream could be opened to."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path

import pytest

from ztunnel.endpoint import Endpoint, RootFile, SystemRoots, TokenFile
from ztunnel.errors import EndpointError, EndpointUnreachable
from ztunnel.wire.duplex import Duplex

pytestmark = pytest.mark.asyncio

ENDPOINT = Endpoint(host="127.0.0.1", port=1, roots=SystemRoots(), cluster_id="c")


async def trouble(endpoint: Endpoint) -> EndpointError:
    with pytest.raises(EndpointError) as caught:
        async with Duplex(endpoint, "/a.b/C", purpose="XDS"):
            pass
    return caught.value


async def test_a_server_that_refuses_is_named() -> None:
    error = await trouble(ENDPOINT)
    assert isinstance(error, EndpointUnreachable)
    assert str(error) == "no connection to 127.0.0.1:1: Connection refused"


async def test_a_name_that_cannot_be_resolved_leads_to_the_name_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no(*arguments: object, **more: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no)
    error = await trouble(dataclasses.replace(ENDPOINT, host="istiod.istio-system.svc"))
    assert isinstance(error, EndpointUnreachable)
    assert str(error) == (
        "no connection to istiod.istio-system.svc:1: Temporary failure in name resolution; "
        "is the DNS server reachable, and the name right?"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"roots": RootFile(Path("/no/roots"))}, "roots cannot be read"),
        ({"token": TokenFile(Path("/no/token"))}, "the token cannot be read"),
    ],
)
async def test_what_is_wrong_on_our_side_is_not_the_servers_fault(
    change: dict[str, object], message: str
) -> None:
    error = await trouble(dataclasses.replace(ENDPOINT, **change))  # type: ignore[arg-type]
    assert not isinstance(error, EndpointUnreachable)
    assert message in str(error)
