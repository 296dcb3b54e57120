"""A node, put together: the only place that introduces the parts to each other.

    node file or environment ─▶ settings ─▶ data plane ◀─ mesh (local source, control plane)
                                                │ ▲
                                         events ▼ │ install
                                           certificate manager ◀─▶ certificate authority

    operators ─▶ admin ─▶ what all of them know, and the end

Where settings, identity and mesh come from is for `nodefile` and `environment` to know. Starts them in order,
supervises them, drains on SIGTERM, SIGINT or `POST /quitquitquit`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ztunnel.admin.server import AdminServer
from ztunnel.clock import Clock, SystemClock
from ztunnel.dataplane.events import events
from ztunnel.fields import fields
from ztunnel.identity.crl import RevokedCertificates
from ztunnel.identity.manager import CertificateManager
from ztunnel.identity.schedule import Priority
from ztunnel.local.source import LocalSource
from ztunnel.settings import IstioCaSettings
from ztunnel.tasks import FailurePolicy, Tasks, detached
from ztunnel.telemetry.filter import Filter
from ztunnel.telemetry.log import use
from ztunnel.telemetry.loop import watch_loop
from ztunnel.version import build_info

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ztunnel.admin.connection import Respond
    from ztunnel.dataplane.handle import DataPlane
    from ztunnel.endpoint import Endpoint
    from ztunnel.identity.ca import CaClient
    from ztunnel.identity.ca.child import Child
    from ztunnel.identity.spiffe import Identity
    from ztunnel.local.source import LocalMesh
    from ztunnel.settings import CaSettings, NodeSettings
    from ztunnel.xds.client import AdsClient, AdsStream

log = logging.getLogger(__name__)

# How long "ready" waits for the node's own certificate; the built-in CA needs milliseconds.
FIRST_CERTIFICATE = 5.0
# What admin answers under way get when everything else has ended: with the one to `POST /quitquitquit`, milliseconds.
LAST_ANSWERS = 2.0

EXIT_OK = 0
EXIT_FAILED = 1


def ads_stream(endpoint: Endpoint) -> AdsStream:
    """A stream of delta ADS to a control plane, over gRPC."""
    # Imported here: a node with no control plane never pays for gRPC.
    from ztunnel.wire.discovery import DELTA_RESOURCES
    from ztunnel.wire.duplex import Duplex

    return Duplex(endpoint, DELTA_RESOURCES, purpose="XDS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a node is made of; tests hand in fakes."""

    data_plane: Callable[[bytes], DataPlane]
    """Makes a data plane from settings (JSON)."""
    ca: Callable[[CaSettings | IstioCaSettings], CaClient]
    clock: Clock
    ads: Callable[[Endpoint], AdsStream] = ads_stream
    """Makes a stream to the control plane, if there is one; not connected yet."""


def real_parts(ca_child: Child | None = None) -> Parts:
    """The compiled data plane, the authority that the settings name, the machine's clock.

    `ca_child` is the first child of the built-in CA, if it was started early.
    """
    # Imported here: tests do not need it.
    from ztunnel.dataplane.native import NativeDataPlane

    def ca(settings: CaSettings | IstioCaSettings) -> CaClient:
        if isinstance(settings, IstioCaSettings):
            return _istiod(settings)
        return _built_in(settings, ca_child)

    return Parts(data_plane=NativeDataPlane, ca=ca, clock=SystemClock())


def _built_in(settings: CaSettings, first: Child | None) -> CaClient:
    from ztunnel.identity.ca.process import ProcessCa

    return ProcessCa(
        settings.directory,
        trust_domain=settings.trust_domain,
        leaf_lifetime=settings.leaf_lifetime,
        first=first,
    )


def _istiod(settings: IstioCaSettings) -> CaClient:
    from ztunnel.dataplane.native import validity
    from ztunnel.identity.ca.istiod import IstiodCa

    return IstiodCa(
        settings.endpoint,
        lifetime=settings.leaf_lifetime,
        validity=validity,
        impersonates=settings.impersonates,
    )


class Node:
    """A node, from its settings to its end."""

    def __init__(
        self,
        settings: NodeSettings,
        identity: Identity | None,
        mesh: LocalMesh,
        parts: Parts,
        *,
        started: float,
        service_account: str = "",
        sections: Mapping[str, Callable[[], object]] = MappingProxyType({}),
    ) -> None:
        """`identity` is the workload's that the node stands for; `started` (monotonic) is for the `ready` line.

        None: the control plane will say it, of a workload that has this `service_account`.

        `sections` make `config` and `version` of `/config_dump`, anything that JSON can say, where a node has more to
        tell than its settings.
        """
        self._settings = settings
        self._identity = str(identity) if identity is not None else None
        self._known = asyncio.Event()
        """It is known who we are."""
        if identity is not None:
            service_account = identity.service_account
            self._known.set()
        self._synced = asyncio.Event()
        """The mesh is there as a whole; before that, nothing is served."""
        self._clock = parts.clock
        self._started = started
        native = settings.to_native(service_account)
        self._sections = {
            "config": lambda: json.loads(native),
            "version": build_info,
            **sections,
        }
        self._data_plane = parts.data_plane(native)
        self._ca = parts.ca(settings.ca)
        self._revoked = (
            RevokedCertificates(settings.crl, data_plane=self._data_plane, clock=self._clock)
            if settings.crl is not None
            else None
        )
        self._source = LocalSource(mesh, data_plane=self._data_plane, clock=self._clock)
        self._manager = CertificateManager(
            data_plane=self._data_plane, ca=self._ca, clock=self._clock
        )
        self._xds = self._ads_client(parts)
        self._stop = asyncio.Event()
        self._at_once = asyncio.Event()
        """Somebody will not wait for connections to end."""
        self._exit_code = EXIT_OK

    async def run(self) -> int:
        """Serves until it is told to end, or cannot go on, then drains; gives the exit code."""
        manager, admin = self._manager, None
        try:
            # First: what comes while a large mesh is read is heard after it.
            self._listen_to_signals()
            self._source.start()
            if self._revoked is not None:
                self._revoked.start()
            admin = AdminServer(self._settings.listen.admin, self._routes)
            bound = self._data_plane.start(admin.addresses)
            if admin.addresses:
                bound["admin"] = ",".join(admin.addresses)
            # After the start, which takes its time while the authority gets ready.
            await self._open_authority()
            if self._xds is None:
                self._open_gate()
            async with Tasks(self._clock) as tasks:
                tasks.start("certificates", manager.run, on_failure=FailurePolicy.RESTART)
                tasks.start("events", lambda: self._pump(manager), on_failure=FailurePolicy.RESTART)
                tasks.start("loop watch", self._watch_loop, on_failure=FailurePolicy.RESTART)
                tasks.start("admin", admin.run, on_failure=FailurePolicy.RESTART)
                # Beside the rest: whoever ends the node need not wait for a certificate first.
                tasks.start("announcement", lambda: self._announce(manager, bound))
                if self._xds is not None:
                    tasks.start("xds", self._xds.run, on_failure=FailurePolicy.RESTART)
                tasks.start("mesh file", self._source.watch, on_failure=FailurePolicy.RESTART)
                if self._revoked is not None:
                    watch = self._revoked.watch
                    tasks.start("revoked certificates", watch, on_failure=FailurePolicy.RESTART)
                await self._stop.wait()
                await admin.stop()
                await self._drain()
                if not self._at_once.is_set():
                    await admin.finish(LAST_ANSWERS)
                return self._exit_code
        finally:
            if admin is not None:
                admin.close()
            self._ca.close()
            self._data_plane.stop()

    async def _open_authority(self) -> None:
        """Waits until certificates can be had, or somebody ends the node: a folder's file system may hang."""
        async with asyncio.TaskGroup() as group:
            opening = group.create_task(_failure(self._ca.open()))
            told = group.create_task(self._stop.wait())
            either: list[asyncio.Task[Any]] = [opening, told]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            for task in either:
                task.cancel()  # no effect on one that is done
        failure = None if opening.cancelled() else opening.result()
        if failure is not None:
            raise failure

    def _ads_client(self, parts: Parts) -> AdsClient | None:
        """Who learns the mesh from the control plane, if there is one."""
        xds = self._settings.xds
        if xds is None:
            return None
        from ztunnel.xds.client import AdsClient

        return AdsClient(
            xds,
            data_plane=self._data_plane,
            clock=self._clock,
            connect=lambda: parts.ads(xds.endpoint),
            opened=self._open_gate,
        )

    def _open_gate(self) -> None:
        """The mesh is there: traffic may be served."""
        self._data_plane.mark_synced()
        self._synced.set()

    async def _watch_loop(self) -> None:
        await watch_loop(self._data_plane, self._clock)

    async def _announce(self, manager: CertificateManager, bound: dict[str, str]) -> None:
        """Asks for the node's own certificate and says that the node is ready."""
        # However long the control plane takes: readiness says meanwhile what is awaited.
        await self._synced.wait()
        try:
            async with asyncio.timeout(FIRST_CERTIFICATE):
                failure = await self._first_certificate(manager)
        except TimeoutError:
            failure = f"none within {FIRST_CERTIFICATE:g} s"
            if self._identity is None:
                failure = f"the mesh has no workload {self._settings.workload} of this node"
        if failure is not None:
            log.error("no certificate yet; tunnels wait for it", extra=fields(error=failure))
        took = round((self._clock.now().monotonic - self._started) * 1000)
        about = fields(ms=took, workload=self._settings.workload, identity=self._identity, **bound)
        log.info("ready", extra=about)

    async def _first_certificate(self, manager: CertificateManager) -> str | None:
        """What came of asking for it, once it is known whose it is: None for success, else why not."""
        await self._known.wait()
        if self._identity is None:
            raise AssertionError("known, and nobody")
        manager.want(self._identity, Priority.WARMUP)
        return await manager.first_outcome(self._identity)

    def _wanted(self, manager: CertificateManager, identity: str, priority: Priority) -> None:
        """A certificate is needed, of the identity that our workload has now."""
        if self._settings.xds is not None and identity != self._identity:
            # The mesh has made somebody else of us: nobody will ask for the one before.
            if self._identity is not None:
                manager.forget(self._identity)
            self._identity = identity
            self._known.set()
        manager.want(identity, priority)

    async def _pump(self, manager: CertificateManager) -> None:
        """Hands what the data plane says to whom it concerns."""
        async for event in events(self._data_plane):
            match event.kind:
                case "credential_wanted" if event.identity is not None:
                    now = event.detail == "now"
                    priority = Priority.REALTIME if now else Priority.WARMUP
                    self._wanted(manager, event.identity, priority)
                case "credential_idle" if event.identity is not None:
                    # The node's own stays: its next connection should not wait for a certificate.
                    if event.identity != self._identity:
                        manager.forget(event.identity)
                case "resource_wanted" if self._xds is not None:
                    self._xds.want(event.detail)
                case "resource_wanted":
                    self._data_plane.not_there(event.detail)
                case "overflow":
                    log.warning("events of the data plane were lost; waiting connections ask again")
                case "worker_failed":
                    self._end_for_want_of(event.detail)
                case _:
                    log.warning("an event that nobody knows", extra=fields(kind=event.kind))

    def _end_for_want_of(self, worker: str) -> None:
        """A worker is gone, with its listeners, and does not come back: whoever runs the node shall start it anew.

        The others' connections get the time of any drain (spec/reliability.md F48: no panic of a task comes to this).
        """
        log.error(
            "a worker failed; the node drains and ends, to be started again",
            extra=fields(stage="worker", side="local", reason=worker),
        )
        self._exit_code = EXIT_FAILED
        self._stop.set()

    async def _drain(self) -> None:
        """Lets connections end by themselves for a while. A second SIGINT ends the wait."""
        seconds = self._settings.drain
        log.info("draining", extra=fields(seconds=seconds))
        async with asyncio.TaskGroup() as group:
            drained = group.create_task(self._drained(seconds))
            impatience = group.create_task(self._at_once.wait())
            either: list[asyncio.Task[bool]] = [drained, impatience]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            impatience.cancel()
            ended = drained.done()
            drained.cancel()
        if not ended:
            log.warning("ended at once by a second signal")
        elif drained.result():
            log.info("drained")
        else:
            log.warning("connections were cut at the deadline", extra=fields(seconds=seconds))

    async def _drained(self, seconds: float) -> bool:
        try:
            return await detached("drain", lambda: self._data_plane.drain(seconds))
        except Exception:
            log.exception("draining failed")
            return False

    def _routes(self) -> Respond:
        """What the admin port answers; asked for when somebody asks it."""
        from ztunnel.admin.routes import Routes, Sources

        def as_json(section: Callable[[], object]) -> Callable[[], bytes]:
            return lambda: json.dumps(section(), ensure_ascii=False).encode()

        sections = {name: as_json(section) for name, section in self._sections.items()}
        sources = Sources(
            data_plane=self._data_plane,
            sections={**sections, "staticConfig": self._source.static_config},
            certificate_states=self._manager.states,
            log=LogFilter(self._data_plane),
            quit=self._quit,
        )
        return Routes(sources).answer

    def _quit(self) -> None:
        log.info("told to end by the admin port")
        self._stop.set()

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        # A closed pipe behind the log must not end a proxy.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def _on_signal(self, number: signal.Signals) -> None:
        # Where upstream says it, in its words.
        words = "received signal %s, starting shutdown"
        logging.getLogger("ztunnel.signal.imp").info(words, number.name)
        # Supervisors repeat SIGTERM and mean the same; a person who repeats Ctrl-C does not want to wait.
        if number == signal.SIGINT and self._stop.is_set():
            self._at_once.set()
        self._stop.set()


async def _failure(work: Awaitable[None]) -> Exception | None:
    """What went wrong, as a value: raised inside a task group it would come out in a group."""
    try:
        await work
    except Exception as error:
        return error
    return None


class LogFilter:
    """The one filter of both halves' lines, for `/logging`."""

    def __init__(self, data_plane: DataPlane) -> None:
        self._data_plane = data_plane

    def shown(self) -> str:
        """As it is now."""
        return self._data_plane.log_filter()

    def change(self, *, reset: bool, directives: str | None) -> str:
        """Changes it for Rust and then, as it has become, for Python."""
        shown = self._data_plane.change_log_filter(reset, directives)
        use(Filter.parse(shown))
        return shown
