"""A small istio.v1.auth CA: one root, and a certificate for whoever brings the token and a request.

gRPC by hand on `h2` and asyncio: one unary call with a request of a few hundred bytes. It believes any
SPIFFE name in a request, which a real CA must not. Counterpart: the peers' CA clients (control §7.3).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from bench.macro import protobuf
from bench.macro.authority import DAY

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bench.macro.authority import Authority

METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
MOST_REQUEST = 16 * 1024
_UNAUTHENTICATED, _INVALID, _UNIMPLEMENTED = 16, 3, 12


class Refusal(Exception):
    """A gRPC status other than OK."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class _Call:
    path: str
    token: str
    body: bytearray = field(default_factory=bytearray)


class Conversation:
    """One connection: bytes in, bytes out."""

    def __init__(self, authority: Authority, token: str) -> None:
        self._authority, self._token = authority, token
        config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self._http = h2.connection.H2Connection(config)
        self._http.initiate_connection()
        self._calls: dict[int, _Call] = {}

    def outgoing(self) -> bytes:
        """What there is to send."""
        return self._http.data_to_send()

    def receive(self, data: bytes) -> None:
        """Take what the peer sent, and answer what is complete."""
        for event in self._http.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                headers = {str(name): str(value) for name, value in event.headers or ()}
                call = _Call(headers[":path"], headers.get("authorization", ""))
                self._calls[event.stream_id] = call
            elif isinstance(event, h2.events.DataReceived):
                self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if (open_call := self._calls.get(event.stream_id)) is not None:
                    open_call.body += event.data or b""
                    if len(open_call.body) > MOST_REQUEST:
                        self._finish(event.stream_id, Refusal(_INVALID, "a request this long"))
            elif isinstance(event, h2.events.StreamEnded):
                self._answer(event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                self._calls.pop(event.stream_id, None)

    def _answer(self, stream: int) -> None:
        call = self._calls.get(stream)
        if call is None:
            return
        try:
            if call.path != METHOD:
                raise Refusal(_UNIMPLEMENTED, f"no method {call.path}")
            if call.token != f"Bearer {self._token}":
                raise Refusal(_UNAUTHENTICATED, "this token is nobody's")
            if len(call.body) < 5 or call.body[0]:
                raise Refusal(_INVALID, "one message without compression")
            chain = answer(self._authority, bytes(call.body[5:]))
        except Refusal as refusal:
            self._finish(stream, refusal)
            return
        message = b"".join(protobuf.length_delimited(1, certificate) for certificate in chain)
        self._http.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        self._http.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message)
        self._http.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        del self._calls[stream]

    def _finish(self, stream: int, refusal: Refusal) -> None:
        headers = [(":status", "200"), ("content-type", "application/grpc")]
        headers += [("grpc-status", str(refusal.status)), ("grpc-message", str(refusal))]
        self._http.send_headers(stream, headers, end_stream=True)
        self._calls.pop(stream, None)


@contextlib.contextmanager
def serving(
    authority: Authority, token: str, folder: Path, listeners: Sequence[Callable[[], socket.socket]]
) -> Iterator[None]:
    """Serve on these sockets in a thread, until the end of the block."""
    context = authority.server_context(folder)
    sockets = [listen() for listen in listeners]
    loop = asyncio.new_event_loop()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = Conversation(authority, token)
        with contextlib.suppress(OSError, h2.exceptions.ProtocolError, asyncio.CancelledError):
            while True:
                writer.write(conversation.outgoing())
                await writer.drain()
                data = await reader.read(64 * 1024)
                if not data:
                    break
                conversation.receive(data)
        writer.close()

    async def start() -> None:
        for listener in sockets:
            await asyncio.start_server(one, sock=listener, ssl=context)

    async def end() -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=loop.run_forever, name="ca", daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
        for listener in sockets:
            listener.close()


def answer(authority: Authority, request: bytes) -> list[bytes]:
    """[leaf, root] for an IstioCertificateRequest."""
    fields = protobuf.fields(request)
    try:
        csr = x509.load_pem_x509_csr(bytes(fields[1]))
        found = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (KeyError, TypeError, ValueError, x509.ExtensionNotFound) as error:
        raise Refusal(_INVALID, f"csr: {error!r}") from error
    uris = found.value.get_values_for_type(x509.UniformResourceIdentifier)
    public = csr.public_key()
    if not csr.is_signature_valid or len(uris) != 1 or not uris[0].startswith("spiffe://"):
        raise Refusal(_INVALID, f"csr: one SPIFFE name and a good signature, not {uris}")
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise Refusal(_INVALID, "csr: an elliptic curve's key")
    asked = fields.get(3, 0)
    life = dt.timedelta(seconds=asked) if isinstance(asked, int) and asked > 0 else DAY
    name = x509.UniformResourceIdentifier(uris[0])
    return [authority.sign(public, [name], min(life, DAY)), authority.root]
