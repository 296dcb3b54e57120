"""Unary calls to one server of the control plane: token, deadline, and what went wrong as a `CaError`.

Keeps one connection (`connection.py`) for as long as it lasts and the file of roots stays as it is.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpclib.client import UnaryUnaryMethod
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

from ztunnel.endpoint import RootFile
from ztunnel.errors import (
    CaError,
    CaRefusal,
    CaUnavailable,
    EndpointError,
    EndpointUnreachable,
)
from ztunnel.fields import fields
from ztunnel.files import signature_of
from ztunnel.wire.connection import Connection, metadata_of, reason_of, untrusted

if TYPE_CHECKING:
    from grpclib.client import Stream

    from ztunnel.endpoint import Endpoint
    from ztunnel.files import Signature

log = logging.getLogger(__name__)

# A chain and a bundle of every public root have 300 KiB (spec/reliability.md BI-C: 10 MB is told by what is in it).
MAX_ANSWER = 16 * 1024 * 1024
# Answers that the same request may not get again a little later (gRPC status codes).
PASSING = {"ABORTED", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}


class UnaryChannel:
    """Calls with the endpoint's token and cluster; connects when needed, and again after trouble."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._current: _Shared | None = None
        self._signature: Signature = None

    def open(self) -> None:
        """Reads the roots, for mistakes that will not mend themselves; `CaError`. Connects to nobody yet."""
        self._connected()

    def close(self) -> None:
        """Ends the connection; a call makes a new one."""
        if self._current is not None:
            self._current.connection.close()
            self._current = None

    async def call(self, method: str, request: bytes, *, deadline: float) -> bytes:
        """One request, one answer; `CaError` with the stage, the server and what to look at."""
        metadata = self._metadata()
        shared = self._connected()
        ask = UnaryUnaryMethod(shared.connection, method, bytes, bytes)
        shared.calls += 1
        try:
            async with asyncio.timeout(deadline), ask.open(metadata=metadata) as stream:
                await stream.send_message(request, end=True)
                self._bound(stream)
                answer = await stream.recv_message()
                # Without an answer, leaving raises what the server said instead.
            return answer or b""
        except GRPCError as error:
            raise self._answered(error) from None
        except TimeoutError:
            # Perhaps the connection leads nowhere any more: the next call makes a new one.
            self._give_up(shared)
            raise CaUnavailable(f"no answer within {deadline:g} s from {self._endpoint}") from None
        except ssl.SSLCertVerificationError as error:
            hint = "check CA_ROOT_CA, and CA_ADDRESS or ALT_CA_HOSTNAME"
            reason = untrusted(error)
            raise CaError(f"{self._endpoint} is not trusted; {hint}: {reason}") from None
        except EndpointUnreachable as error:
            raise CaUnavailable(str(error)) from None
        except (OSError, StreamTerminatedError, ProtocolError) as error:
            self._give_up(shared)
            raise CaUnavailable(f"no connection to {self._endpoint}: {reason_of(error)}") from None
        finally:
            shared.calls -= 1
            self._close_unused(shared)

    def _bound(self, stream: Stream[bytes, bytes]) -> None:
        """The library takes any length that a server names, up to 4 GiB, and holds it."""
        below = stream._stream
        take = below.recv_data

        async def recv_data(size: int) -> bytes:
            if size > MAX_ANSWER:
                most = MAX_ANSWER // 1024 // 1024
                raise CaError(f"{self._endpoint} answers with more than {most} MiB: {size} bytes")
            return await take(size)

        setattr(below, "recv_data", recv_data)  # noqa: B010 - a method, to mypy

    def _connected(self) -> _Shared:
        """The connection in use, made anew if the file of roots has changed since."""
        roots = self._endpoint.roots
        signature = signature_of(roots.path) if isinstance(roots, RootFile) else None
        before = self._current
        if before is not None and signature == self._signature:
            return before
        try:
            made = _Shared(Connection(self._endpoint))
        except EndpointError as error:
            if before is None:
                raise CaError(str(error)) from None
            # Whoever replaces the file is not done yet, perhaps: what was good is good a little longer.
            log.warning("the roots stay as they were", extra=fields(error=error))
            return before
        self._current, self._signature = made, signature
        if before is not None:
            self._close_unused(before)
        return made

    def _give_up(self, shared: _Shared) -> None:
        """The next call makes a new connection, if that has not happened already."""
        if self._current is shared:
            self._current = None

    def _close_unused(self, shared: _Shared) -> None:
        # Others may be about to be answered on it: one call that hangs must not cost them theirs.
        if shared.calls == 0 and self._current is not shared:
            shared.connection.close()

    def _metadata(self) -> list[tuple[str, str]]:
        try:
            return metadata_of(self._endpoint)
        except EndpointError as error:
            raise CaError(str(error)) from None

    def _answered(self, error: GRPCError) -> CaError:
        """What the server said instead of an answer, as what it means for whoever asked."""
        status = error.status.name
        text = f"{self._endpoint} answered {status}: {error.message or 'without a reason'}"
        if status in PASSING:
            return CaUnavailable(text)
        if status == "UNAUTHENTICATED":
            # istiod's word for everything, such as a pod that it has not heard of yet (spec/istio.md A3.8).
            return CaUnavailable(
                f"{text}; check AUTH_TOKEN, and that the workload runs on this node; "
                "one that has just been scheduled is known in a moment"
            )
        if status == "PERMISSION_DENIED":
            return CaRefusal(f"{text}; check whom the server lets ask")
        return CaRefusal(text)


@dataclass(slots=True)
class _Shared:
    """A connection, and the calls under way on it."""

    connection: Connection
    calls: int = 0
