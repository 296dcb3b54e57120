"""What the client of a certificate authority keeps to itself: its token and its headers, whatever goes wrong (T31)."""

from __future__ import annotations

import dataclasses
import logging
import traceback
from typing import TYPE_CHECKING

import pytest
from grpclib import GRPCError, Status

from ztunnel.dataplane.native import validity
from ztunnel.endpoint import Endpoint, RootText, TokenFile, TokenText
from ztunnel.errors import CaError
from ztunnel.identity.ca.istiod import IstiodCa
from ztunnel.identity.spiffe import Identity
from ztunnel.testing.istio_ca import Asked, Authority, FakeIstioCa

if TYPE_CHECKING:
    from pathlib import Path

WEB = Identity.parse("spiffe://cluster.local/ns/default/sa/web")
TOKEN, HEADER = "eyJhbGciOiJSUzI1NiJ9.token-that-nobody-may-see", "header-that-nobody-may-see"


def refuses(asked: Asked) -> tuple[str, ...]:
    raise GRPCError(Status.UNAUTHENTICATED, "no such account")


@pytest.mark.asyncio
@pytest.mark.parametrize("case", ["refused", "nobody there", "nobody believed", "no answer"])
@pytest.mark.parametrize("kept", ["text", "file"])
async def test_no_failure_tells_a_token(
    case: str, kept: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1, "ztunnel")
    file = tmp_path / "token"
    file.write_text(TOKEN)
    async with FakeIstioCa() as server:
        endpoint = Endpoint(
            host="127.0.0.1",
            port=server.port,
            roots=RootText(server.authority.pem),
            token=TokenText(TOKEN) if kept == "text" else TokenFile(file),
            cluster_id="Kubernetes",
            headers=(("x-key", HEADER),),
        )
        match case:
            case "refused":
                server.answer = refuses
            case "nobody there":
                endpoint = dataclasses.replace(endpoint, port=1)
            case "nobody believed":
                endpoint = dataclasses.replace(endpoint, roots=RootText(Authority().pem))
            case _:
                server.answering.clear()
        ca = IstiodCa(endpoint, lifetime=60.0, validity=validity, deadline=1.0)
        try:
            with pytest.raises(CaError) as failure:
                await ca.sign(b"a request", WEB)
        finally:
            ca.close()
            server.answering.set()
        if case == "refused":
            # It was worth looking: both were sent.
            (asked,) = server.asked
            assert asked.headers["authorization"] == f"Bearer {TOKEN}"
            assert asked.headers["x-key"] == HEADER
    told = [repr(endpoint), str(endpoint), repr(failure.value), *caplog.messages]
    told += traceback.format_exception(failure.value)
    told += [str(record.__dict__) for record in caplog.records]
    assert not any(TOKEN in text or HEADER in text for text in told), told


def test_what_is_logged_of_an_endpoint_is_where_it_is() -> None:
    endpoint = Endpoint(
        host="istiod",
        port=15012,
        roots=RootText("pem"),
        token=TokenText(TOKEN),
        cluster_id="c",
        headers=(("x-key", HEADER),),
    )
    logging.getLogger("ztunnel").debug("connecting to %r", endpoint)
    assert TOKEN not in repr(endpoint)
    assert HEADER not in repr(endpoint)
    assert str(endpoint) == "istiod:15012"
