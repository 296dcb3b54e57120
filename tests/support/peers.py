"""A node made of a script: TLS and HTTP/2 by the `ssl` module and `h2`, so that it can do what a node never does.

Blocking and without threads: the test says what the peer does next. Its certificate comes from the CA folder of the
mesh's nodes. Counterpart of `nodes.py`, which starts real ones.
"""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self, TypeVar

import h2.config
import h2.connection
import h2.events
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hyperframe.frame import GoAwayFrame

from ztunnel.identity.ca.selfsigned import SelfSignedCa
from ztunnel.identity.spiffe import Identity

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.nodes import Address

DEADLINE = 30.0
EventT = TypeVar("EventT", bound=h2.events.Event)


def context(folder: Path, service_account: str, *, server: bool) -> ssl.SSLContext:
    """TLS as the node of `service_account` would speak it; `folder` has the nodes' `ca` in it."""
    key = ec.generate_private_key(ec.SECP256R1())
    identity = Identity.parse(f"spiffe://cluster.local/ns/default/sa/{service_account}")
    name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(name, critical=True)
        .sign(key, hashes.SHA256())
    )
    ca = SelfSignedCa.open(folder / "ca", trust_domain="cluster.local", leaf_lifetime=3600.0)
    issued = ca.issue(request.public_bytes(serialization.Encoding.PEM), identity)
    chain = folder / f"{service_account}-peer.pem"
    chain.touch(mode=0o600)
    chain.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + issued.chain
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.check_hostname = False  # SPIFFE names are in the URI
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(chain)
    tls.load_verify_locations(cadata=issued.roots.decode())
    tls.set_alpn_protocols(["h2"])
    return tls


class Peer:
    """One HTTP/2 connection with a node, either role. `h2` is the engine, for whatever the script wants."""

    def __init__(self, connection: ssl.SSLSocket, *, server: bool) -> None:
        self._tls = connection
        self._events: list[h2.events.Event] = []
        config = h2.config.H2Configuration(client_side=not server)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.sends()

    @classmethod
    def accepts(cls, listener: socket.socket, tls: ssl.SSLContext) -> Self:
        """The next tunnel that a node makes."""
        listener.settimeout(DEADLINE)
        connection, _ = listener.accept()
        connection.settimeout(DEADLINE)
        return cls(tls.wrap_socket(connection, server_side=True), server=True)

    @classmethod
    def dials(cls, address: Address, tls: ssl.SSLContext) -> Self:
        """A tunnel to a node."""
        connection = socket.create_connection(address, DEADLINE)
        return cls(tls.wrap_socket(connection), server=False)

    def __enter__(self) -> Self:
        """For `with`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket, without a word of TLS."""
        self._tls.close()

    def sends(self) -> None:
        """Put on the wire what the engine has to say."""
        self._tls.sendall(self.h2.data_to_send())

    def waits_for(self, kind: type[EventT]) -> EventT:
        """The next event of this kind; what comes before it is passed over."""
        deadline = time.monotonic() + DEADLINE
        while True:
            while self._events:
                event = self._events.pop(0)
                if isinstance(event, kind):
                    return event
            assert time.monotonic() < deadline, f"no {kind.__name__}"
            data = self._tls.recv(1 << 16)
            assert data, f"the tunnel ended before {kind.__name__}"
            self._events += self.h2.receive_data(data)
            self.sends()

    def takes_request(self, *, status: int | None = 200) -> int:
        """The stream of the next CONNECT, answered with `status`: the end of the stream, unless it is 200."""
        event = self.waits_for(h2.events.RequestReceived)
        stream = event.stream_id
        assert stream is not None
        if status is not None:
            self.h2.send_headers(stream, [(":status", str(status))], end_stream=status != 200)
            self.sends()
        return stream

    def requests(self, authority: str) -> int:
        """A CONNECT, and the stream on which it was answered with 200."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [(":method", "CONNECT"), (":authority", authority)])
        self.sends()
        answer = self.waits_for(h2.events.ResponseReceived)
        statuses = [value for name, value in answer.headers or [] if name == b":status"]
        assert statuses == [b"200"], answer.headers
        return stream

    def says(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """DATA, no longer than the windows."""
        self.h2.send_data(stream, data, end_stream=end)
        self.sends()

    def resets(self, stream: int, code: int) -> None:
        """RST_STREAM."""
        self.h2.reset_stream(stream, code)
        self.sends()

    def goes_away(self, last: int, code: int = 0) -> Self:
        """GOAWAY; streams above `last` were never looked at."""
        self.h2.close_connection(code, last_stream_id=last)
        self.sends()
        return self

    def goes_away_softly(self, last: int) -> None:
        """GOAWAY NO_ERROR as RFC 9113 §6.8 has it: streams up to `last` go on. `h2` would end them all."""
        frame = GoAwayFrame(stream_id=0, last_stream_id=last, error_code=0)
        self._tls.sendall(frame.serialize())

    def closes_in_order(self) -> None:
        """close_notify and FIN, with streams still open."""
        self._tls.settimeout(1)
        with suppress(OSError):  # the node need not answer in kind
            self._tls.unwrap()
        self._parts()

    def hangs_up(self) -> None:
        """FIN without close_notify."""
        self._parts()

    def _parts(self) -> None:
        """FIN behind all that was said, and hear the node out.

        Closing over bytes that were not read would be a RST, which throws away what Nagle's rule still holds back.
        """
        self._tls.settimeout(1)
        with suppress(OSError):  # the node may have gone
            self._tls.shutdown(socket.SHUT_WR)
            while self._tls.recv(1 << 16):
                pass
        self._tls.close()

    def babbles(self) -> None:
        """Bytes that are no frame of any stream's state: DATA on stream 0 (RFC 9113 §6.1)."""
        self._tls.sendall(b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x")
