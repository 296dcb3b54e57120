"""Unary gRPC calls to one server of the control plane, over one long-lived connection.

The only file that imports grpclib, and it does so at the first call. Chosen over grpcio by what it keeps
resident (2 MiB, not 10); both were measured in a node's own set of modules.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

from ztunnel.endpoint import RootFile, TokenFile, TokenText
from ztunnel.errors import CaError, CaRefusal, CaUnavailable
from ztunnel.files import read_small_file, signature_of
from ztunnel.wire.tls import client_context

if TYPE_CHECKING:
    from grpclib.client import Channel

    from ztunnel.endpoint import Endpoint, Token
    from ztunnel.files import Signature

# A projected token has about 1 KiB.
MAX_TOKEN = 64 * 1024
# spec/control.md §4.1: a silent peer is noticed after 40 s, while somebody waits for it.
PING_AFTER = 30.0
PING_TIMEOUT = 10.0


class UnaryChannel:
    """Calls with the endpoint's token and cluster; connects when needed, and again after trouble."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._channel: Channel | None = None
        self._made_with: Signature = None

    def check(self) -> None:
        """Reads the roots once, for mistakes that will not mend themselves; `CaError`."""
        client_context(self._endpoint)

    async def call(self, method: str, request: bytes, *, deadline: float) -> bytes:
        """One request, one answer; `CaError` with the stage, the server and what to look at."""
        from grpclib.client import UnaryUnaryMethod
        from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

        metadata = self._metadata()
        channel = self._connection()
        try:
            async with asyncio.timeout(deadline):
                return bytes(
                    await UnaryUnaryMethod(channel, method, bytes, bytes)(
                        request, metadata=metadata
                    )
                )
        except GRPCError as error:
            raise self._answered(error) from None
        except TimeoutError:
            # Perhaps the connection leads nowhere any more: the next call makes a new one.
            self.close()
            raise CaUnavailable(f"no answer within {deadline:g} s from {self._endpoint}") from None
        except ssl.SSLCertVerificationError as error:
            reason = error.verify_message or error.strerror
            hint = "check CA_ROOT_CA and the server's name"
            raise CaError(f"{self._endpoint} is not trusted; {hint}: {reason}") from None
        except (OSError, StreamTerminatedError, ProtocolError) as error:
            self.close()
            raise CaUnavailable(f"no connection to {self._endpoint}: {_reason(error)}") from None

    def close(self) -> None:
        """Ends the connection; a call makes a new one."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _connection(self) -> Channel:
        """The connection in use, made anew if the file of roots has changed."""
        roots = self._endpoint.roots
        signature = signature_of(roots.path) if isinstance(roots, RootFile) else None
        if self._channel is not None and signature == self._made_with:
            return self._channel
        made = _open(self._endpoint)
        self.close()
        self._channel, self._made_with = made, signature
        return made

    def _metadata(self) -> list[tuple[str, str]]:
        metadata = [("clusterid", self._endpoint.cluster_id), *self._endpoint.headers]
        token = read_token(self._endpoint.token)
        return metadata if token is None else [("authorization", f"Bearer {token}"), *metadata]

    def _answered(self, error: Any) -> CaError:
        """What the server said instead of an answer, as what it means for whoever asked."""
        status = error.status.name
        text = f"{self._endpoint} answered {status}: {error.message or 'without a reason'}"
        if status in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
            return CaRefusal(f"{text}; check the token and whom the server lets ask")
        if status in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED"):
            return CaUnavailable(text)
        return CaRefusal(text)


def read_token(token: Token) -> str | None:
    """The token as of now, without blanks around it; `CaError` for one that cannot be sent."""
    match token:
        case None:
            return None
        case TokenText(text):
            found, where = text.strip(), "the token that was given"
        case TokenFile(path):
            where = f"the token in {path}"
            try:
                data = read_small_file(path, limit=MAX_TOKEN)
            except OSError as error:
                raise CaError(f"{where} cannot be read: {error.strerror or error}") from None
            found = data.decode("ascii", "replace").strip()
    if not found:
        raise CaError(f"{where} is empty")
    if len(found) > MAX_TOKEN or not (found.isascii() and found.isprintable()):
        raise CaError(f"{where} cannot be sent: it is too long or has characters of no header")
    return found


def _open(endpoint: Endpoint) -> Channel:
    from grpclib.client import Channel
    from grpclib.config import Configuration

    configuration = Configuration(_keepalive_time=PING_AFTER, _keepalive_timeout=PING_TIMEOUT)
    return Channel(
        endpoint.host,
        endpoint.port,
        codec=_codec(),
        ssl=client_context(endpoint),
        config=configuration,
    )


def _codec() -> Any:
    """Bytes as they are: `wire` encodes by itself."""
    from grpclib.encoding.base import CodecBase

    class Raw(CodecBase):
        __content_subtype__ = "proto"

        def encode(self, message: Any, message_type: Any) -> bytes:
            del message_type
            return bytes(message)

        def decode(self, data: bytes, message_type: Any) -> Any:
            del message_type
            return data

    return Raw()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return str(error) or type(error).__name__
