"""`FakeIstiod`: the control plane of a mesh in a test, over real TLS gRPC on a loopback port.

    async with FakeIstiod() as istiod:
        istiod.put(mesh.workload("web", ip="10.0.0.7"))
        ...  # start a proxy with `istiod.environment(folder)`
        await istiod.synced()

One port serves delta ADS and `istio.v1.auth`, as istiod does (istio.md A3). It keeps istiod's rules and limits; what
goes wrong is up to the test. `background.py` runs it for tests that have no event loop, `__main__.py` in a process.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import deque
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpclib import GRPCError, Status
from grpclib.const import Cardinality, Handler

from ztunnel.testing.istiod.ads import AdsStream
from ztunnel.testing.istiod.callers import Caller, Tokens, admit
from ztunnel.testing.istiod.certificates import Certificates
from ztunnel.testing.istiod.cluster import Change, Cluster
from ztunnel.testing.istiod.faults import RATE_LIMITED, Close, Fault, Reset
from ztunnel.testing.istiod.observed import DEADLINE, NotSeenError, Observed, Stream
from ztunnel.testing.istiod.port import Port, Service, show_chain
from ztunnel.testing.istiod.recording import Ended, Line, Player
from ztunnel.testing.istiod.stream import MAX_REQUEST, Live, how_it_ended
from ztunnel.wire.citadel import CREATE_CERTIFICATE, CertificateRequest, CertificateResponse
from ztunnel.wire.discovery import DELTA_RESOURCES
from ztunnel.wire.protobuf import NotProtobuf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from grpclib.server import Stream as Wire

    from ztunnel.testing.istiod.admission import Admission
    from ztunnel.testing.istiod.resources import Resource
    from ztunnel.testing.istiod.stream import Out
    from ztunnel.wire.discovery import DeltaRequest, WireNode, WireResponse

# What istiod's certificate is for, in the default revision of the default namespace (istio.md A3.1).
SERVER_NAMES = (
    "istiod.istio-system.svc",
    "istiod-remote.istio-system.svc",
    "istio-pilot.istio-system.svc",
)


class FakeIstiod:
    """`async with` serves; everything else is called from within the same event loop."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        names: Sequence[str] = SERVER_NAMES,
        cluster_id: str = "Kubernetes",
    ) -> None:
        """`names` are the DNS names in its certificate, beside `host`; port 0 is any free one."""
        self.cluster_id = cluster_id
        self.cluster = Cluster()
        self.certificates = Certificates(self.cluster)
        self.tokens = Tokens()
        self.token = self.tokens.issue("istio-system", "ztunnel", "ztunnel")
        """A good one, of the node proxy's own account."""
        self.observed = Observed()
        # Looked up at each call: whoever hosts the server may put another one in its place.
        self.certificates.changed = lambda: self.observed.changed()
        self.admission: Admission | None = None
        """How many streams it takes; None: as many as come."""
        self.delay = 0.0
        """Seconds that every answer of the CA takes, and every first look at a stream."""
        self.max_request = MAX_REQUEST
        """Bytes of the largest request that it takes."""
        self._names = (*names, host)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._live: dict[int, tuple[Live, AdsStream | None]] = {}
        self._scripts: deque[Mapping[int, Fault]] = deque()
        self._players: deque[Player] = deque()
        methods = {
            DELTA_RESOURCES: Handler(self._serve, Cardinality.STREAM_STREAM, bytes, bytes),
            CREATE_CERTIFICATE: Handler(self._sign, Cardinality.UNARY_UNARY, bytes, bytes),
        }
        self._service, self._host, self._wanted_port = Service(methods), host, port
        self._port: Port | None = None

    async def __aenter__(self) -> Self:
        """Serves."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        """Serves no longer."""
        await self.stop()

    # Its port, well or ill.

    @property
    def port(self) -> Port:
        """The port, once it was started: `port.port` is its number."""
        if self._port is None:
            raise RuntimeError("FakeIstiod was not started; use `async with`")
        return self._port

    @property
    def address(self) -> str:
        """`host:port`."""
        host = f"[{self.port.host}]" if ":" in self.port.host else self.port.host
        return f"{host}:{self.port.port}"

    async def start(self) -> None:
        """Serve, again if it was stopped: on the same port, with all it knows, but no stream is remembered."""
        if self._port is None:
            self._port = Port(self._service, host=self._host, port=self._wanted_port)
        self.renew_server_certificate()
        await self._port.open()

    async def stop(self) -> None:
        """As if the process were killed: connections end, new ones are refused."""
        await self.port.refuse()

    def renew_server_certificate(self) -> None:
        """New connections see a certificate of whoever signs now."""
        key = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        names = [_general_name(name) for name in dict.fromkeys(self._names)]
        chain = self.certificates.server_chain(self._key.public_key(), names)
        show_chain(self.port.context, chain, key)

    # The cluster.

    def put(self, *resources: Resource) -> Change:
        """Resources come or change, in one event; whoever has asked for them is told."""
        return self.change(put=resources)

    def remove(self, *resources: Resource) -> Change:
        """They go, in one event."""
        return self.change(remove=[(each.type_url, each.name) for each in resources])

    def change(
        self, put: Iterable[Resource] = (), remove: Iterable[tuple[str, str]] = ()
    ) -> Change:
        """One event: what is put, then what is removed, by type URL and name."""
        change = self.cluster.change(put, remove)
        self._tell(lambda stream: stream.push(change))
        return change

    def push_all(self) -> None:
        """A full push: every stream gets again all that it has asked for."""
        self._tell(AdsStream.push_all)

    def push_nothing(self) -> None:
        """An empty push."""
        self._tell(AdsStream.push_nothing)

    # What goes wrong.

    def next_stream(self, *faults: Fault, at: int = 1) -> None:
        """What happens to responses `at`, `at + 1`, … of the next stream; call it again for the one after."""
        self._scripts.append({at + i: fault for i, fault in enumerate(faults)})

    def end_streams(self, status: Status = Status.OK, message: str = "") -> None:
        """Every stream ends, after what is on its way."""
        self._order(Close(status, message))

    def reset_streams(self) -> None:
        """Every stream is reset; connections stay."""
        self._order(Reset())

    def play(self, recording: Iterable[list[Line]]) -> list[Player]:
        """The next streams are answered as recorded, one after the other; gives what watches over them."""
        players = [Player(lines) for lines in recording]
        self._players += players
        return players

    # What was seen.

    def live(self) -> list[Stream]:
        """The streams that are open."""
        return self.observed.live()

    async def synced(self, streams: int = 1, within: float = DEADLINE) -> list[Stream]:
        """Until so many open streams have taken a response of either type; gives them."""

        def found() -> list[Stream]:
            return [stream for stream in self.live() if stream.synced]

        await self.observed.wait(
            lambda: len(found()) >= streams, f"{streams} streams in sync", within
        )
        return found()

    async def answered(self, within: float = DEADLINE) -> None:
        """Until every response of every open stream was taken or refused."""
        await self.observed.wait(self._is_answered, "an answer to every response", within)

    async def acked(self, type_url: str, times: int = 1, within: float = DEADLINE) -> Stream:
        """Until an open stream has taken so many responses of a type; gives the first."""
        return await self._stream(
            lambda s: s.acks.get(type_url, 0) >= times, f"{times} ACKs of {type_url}", within
        )

    async def nacked(self, type_url: str, within: float = DEADLINE) -> str:
        """Until a response of a type is refused by an open stream; gives the last refusal's text."""
        stream = await self._stream(
            lambda s: any(t == type_url for t, _ in s.nacks), f"a NACK of {type_url}", within
        )
        return [text for of_type, text in stream.nacks if of_type == type_url][-1]

    async def attempted(self, streams: int, within: float = DEADLINE) -> None:
        """Until so many streams were opened since the beginning, however they ended."""
        await self.observed.wait(
            lambda: self.observed.opened >= streams, f"{streams} streams opened", within
        )

    async def _stream(
        self, condition: Callable[[Stream], bool], what: str, within: float
    ) -> Stream:
        await self.observed.wait(lambda: any(map(condition, self.live())), what, within)
        for stream in self.live():
            if condition(stream):
                return stream
        raise NotSeenError(f"{what}: the stream has just ended; {self.observed}")

    def _is_answered(self) -> bool:
        return all(
            not live.seen.unanswered and live.idle
            for live, _ in self._live.values()
            if live.seen.ended is None
        )

    def _tell(self, push: Callable[[AdsStream], list[WireResponse]]) -> None:
        for live, stream in self._live.values():
            if stream is not None:
                live.send(*push(stream))

    def _order(self, end: Close | Reset) -> None:
        for live, _ in self._live.values():
            live.send(end)

    # The calls.

    async def _serve(self, wire: Wire[bytes, bytes]) -> None:
        headers = {key: str(value) for key, value in (wire.metadata or {}).items()}
        seen = self.observed.open(headers)
        self.observed.changed()
        error: BaseException | None = None
        try:
            await self._admit_stream()
            seen.caller = self._caller(headers, "authentication failure")
            await self._converse(wire, seen)
        except BaseException as caught:
            error = caught
            raise
        finally:
            self._live.pop(seen.number, None)
            seen.ended = how_it_ended(error)
            seen.unanswered.clear()
            self.observed.changed()

    async def _converse(self, wire: Wire[bytes, bytes], seen: Stream) -> None:
        script = self._scripts.popleft() if self._scripts else {}
        live = Live(
            wire,
            seen,
            self.observed,
            script=script,
            thawed=self.port.thawed,
            max_request=self.max_request,
        )
        if self._players:
            player = self._players.popleft()
            self._live[seen.number] = live, None
            await live.run(_said(player.begin()), lambda request: _said(player.receive(request)))
            return
        stream = AdsStream(self.cluster, admit=lambda node: self._admit(node, seen))
        self._live[seen.number] = live, stream

        def answer(request: DeltaRequest) -> list[Out]:
            step = stream.receive(request)
            seen.note_request(request, step.verdict)
            return list(step.responses)

        await live.run([], answer)

    def _admit(self, node: WireNode | None, seen: Stream) -> str:
        return admit(node, seen.caller)

    async def _admit_stream(self) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.admission is not None and not await self.admission.enter():
            raise GRPCError(Status.RESOURCE_EXHAUSTED, RATE_LIMITED)

    def _caller(self, headers: Mapping[str, str], refusal: str) -> Caller:
        return self.tokens.caller(headers, cluster=self.cluster_id, refusal=refusal)

    async def _sign(self, wire: Wire[bytes, bytes]) -> None:
        raw = await wire.recv_message()
        headers = {key: str(value) for key, value in (wire.metadata or {}).items()}
        if self.delay:
            await asyncio.sleep(self.delay)
        caller = self._caller(headers, "request authenticate failure")
        try:
            request = CertificateRequest.decode(raw or b"")
        except NotProtobuf as error:
            message = f"grpc: error unmarshalling request: {error}"
            raise GRPCError(Status.INTERNAL, message) from None
        chain = await self.certificates.create(request, caller)
        await self.port.thawed.wait()
        await wire.send_message(CertificateResponse(cert_chain=chain).encode())
        self.observed.changed()


def _said(said: list[bytes | Ended]) -> list[Out]:
    """What a player says, as what a stream sends; a client's own wish to end is no status of the server's."""
    found: list[Out] = []
    for each in said:
        if isinstance(each, bytes):
            found.append(each)
        elif each.status is Status.CANCELLED:
            found.append(Close(Status.OK))
        else:
            found.append(Close(each.status, each.details))
    return found


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
