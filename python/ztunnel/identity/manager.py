"""Runs the certificate schedule: asks the authority, installs into the data plane, waits.

Decides nothing that `schedule.py` can decide. Keys are made by the data plane and stay there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random as system_random
from typing import TYPE_CHECKING

from ztunnel.errors import CaError, CaUnavailable, CredentialError, DataPlaneClosed, IdentityError
from ztunnel.fields import fields
from ztunnel.identity.schedule import (
    NOT_NEEDED,
    CertificateSchedule,
    Effect,
    Expired,
    Forget,
    Priority,
    Request,
    Validity,
)
from ztunnel.identity.spiffe import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ztunnel.clock import Clock
    from ztunnel.dataplane.handle import DataPlane
    from ztunnel.identity.ca import CaClient, IssuedCertificate

log = logging.getLogger(__name__)

# Longer than the slowest authority that still works (reliability F24: 30 s is the test of a slow one).
ANSWER_DEADLINE = 45.0

# What `istioctl` knows (control §11).
INITIALIZING = "Initializing"
UNAVAILABLE = "Unavailable"


class CertificateManager:
    """Keeps every wanted identity in certificates."""

    def __init__(
        self,
        *,
        data_plane: DataPlane,
        ca: CaClient,
        clock: Clock,
        random: Callable[[], float] = system_random.random,
    ) -> None:
        self._data_plane = data_plane
        self._ca = ca
        self._clock = clock
        self._schedule = CertificateSchedule(random)
        self._changed = asyncio.Event()
        self._outcomes: dict[Identity, asyncio.Future[str | None]] = {}
        self._states: dict[Identity, str] = {}

    def want(self, identity: str, priority: Priority) -> None:
        """A certificate is needed: for a workload that appeared (WARMUP) or a waiting connection (REALTIME)."""
        parsed = _parse(identity)
        if parsed is not None:
            self._schedule.want(parsed, priority, self._clock.now())
            if not self._schedule.has_certificate(parsed):
                self._states.setdefault(parsed, INITIALIZING)
            self._changed.set()

    def forget(self, identity: str) -> None:
        """Nobody needs it any more."""
        parsed = _parse(identity)
        if parsed is not None:
            if parsed in self._states:
                self._tell_those_who_wait(parsed, NOT_NEEDED)
            for effect in self._schedule.forget(parsed):
                self._perform_at_once(effect)
            waiting = self._outcomes.pop(parsed, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(NOT_NEEDED)
            self._states.pop(parsed, None)
            self._changed.set()

    def states(self) -> dict[str, str]:
        """By identity, as `/config_dump` spells it, of everything that is wanted and has not come (control §11)."""
        return {str(identity): state for identity, state in self._states.items()}

    async def first_outcome(self, identity: str) -> str | None:
        """Waits for the first answer to the wish for `identity`; None for success, else why not."""
        try:
            parsed = Identity.parse(identity)
        except IdentityError as error:
            # From the mesh, perhaps, as `want` has told: no reason for a node to end.
            return str(error)
        return await asyncio.shield(self._outcome_of(parsed))

    async def run(self) -> None:
        """Runs the schedule until it is cancelled."""
        try:
            await self._run()
        finally:
            # It has failed, perhaps, and begins again: nothing of this round will answer the next one, neither a request
            # that was cancelled nor one whose task had not even begun.
            self._schedule.abandon(self._clock.now())

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                for effect in self._schedule.next(self._clock.now()):
                    if isinstance(effect, Request):
                        group.create_task(
                            self._request(effect), name=f"certificate {effect.identity}"
                        )
                    else:
                        self._perform_at_once(effect)
                await self._wait()

    async def _wait(self) -> None:
        """Until something changed or the schedule has something due."""
        now = self._clock.now()
        wake_at = self._schedule.wake_at(now)
        if wake_at is None:
            await self._changed.wait()
            return
        async with asyncio.TaskGroup() as group:
            alarm = group.create_task(self._ring(wake_at - now.monotonic))
            await self._changed.wait()
            alarm.cancel()

    async def _ring(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._changed.set()

    async def _request(self, request: Request) -> None:
        """One round: key, signing request, answer, installation; every way out answers the ticket."""
        identity = request.identity
        try:
            key = self._data_plane.new_key()
            issued = await self._sign(key.csr(str(identity)), identity)
            validity = Validity(not_before=issued.not_before, not_after=issued.not_after)
            objection = self._schedule.objection(request.ticket, validity, self._clock.now())
            if objection is None:
                self._data_plane.install(str(identity), key, issued.chain, issued.roots)
                self._installed(request, validity)
            else:
                self._failed(request, CaError(objection))
        except DataPlaneClosed:
            log.debug(
                "data plane closed while a certificate was asked for",
                extra=fields(identity=identity),
            )
        except (CaError, CredentialError, OSError) as error:
            self._failed(request, error)
        except Exception as error:
            # Whatever an authority's library raises: the other identities' certificates must go on.
            log.exception("unexpected failure while a certificate was asked for")
            self._failed(request, error)
        finally:
            self._changed.set()

    async def _sign(self, csr: bytes, identity: Identity) -> IssuedCertificate:
        """The authority's answer, or `CaUnavailable` after the deadline."""
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(_outcome(self._ca.sign(csr, identity)))
            alarm = group.create_task(self._clock.sleep(ANSWER_DEADLINE))
            await asyncio.wait({answer, alarm}, return_when=asyncio.FIRST_COMPLETED)
            alarm.cancel()
            answer.cancel()  # no effect on one that is done
        if answer.cancelled():
            raise CaUnavailable(
                f"no answer from the certificate authority within {ANSWER_DEADLINE:g} s"
            )
        result = answer.result()
        if isinstance(result, Exception):
            raise result
        return result

    def _installed(self, request: Request, validity: Validity) -> None:
        now = self._clock.now()
        self._schedule.issued(request.ticket, validity, now)
        left = round(validity.not_after - now.wall)
        log.info("certificate installed", extra=fields(identity=request.identity, valid_s=left))
        if (doubt := validity.doubt(now.wall)) is not None:
            message = "it is in use all the same, as there is no other: %s"
            log.warning(message, doubt, extra=fields(identity=request.identity))
        self._states.pop(request.identity, None)
        self._tell(request.identity, None)

    def _failed(self, request: Request, error: Exception) -> None:
        pause = self._schedule.failed(request.ticket, self._clock.now())
        if pause is not None:
            message = "no new certificate; asking again"
            log.warning(
                message,
                extra=fields(identity=request.identity, error=error, pause_s=round(pause, 1)),
            )
            if request.identity in self._states:
                self._states[request.identity] = f"{UNAVAILABLE}: {error}"
                self._tell_those_who_wait(request.identity, str(error))
            self._tell(request.identity, str(error))

    def _tell_those_who_wait(self, identity: Identity, why: str) -> None:
        """Connections: they fail now, and the next ones too, while it is asked for again behind their backs."""
        with contextlib.suppress(DataPlaneClosed):
            self._data_plane.no_certificate(str(identity), why)

    def _tell(self, identity: Identity, outcome: str | None) -> None:
        waiting = self._outcome_of(identity)
        if not waiting.done():
            waiting.set_result(outcome)

    def _outcome_of(self, identity: Identity) -> asyncio.Future[str | None]:
        if identity not in self._outcomes:
            self._outcomes[identity] = asyncio.get_running_loop().create_future()
        return self._outcomes[identity]

    def _perform_at_once(self, effect: Effect) -> None:
        match effect:
            case Forget(identity):
                self._data_plane.forget(str(identity))
                log.info("certificate forgotten", extra=fields(identity=identity))
            case Expired(identity):
                message = "certificate expired; new connections of this identity fail until there is another"
                log.error(message, extra=fields(identity=identity))
            case Request():
                raise AssertionError("requests are started by run()")


async def _outcome(
    answer: Coroutine[None, None, IssuedCertificate],
) -> IssuedCertificate | Exception:
    """The answer, or the exception as a value: raised inside a task group it would end the group."""
    try:
        return await answer
    except Exception as error:
        return error


def _parse(identity: str) -> Identity | None:
    try:
        return Identity.parse(identity)
    except IdentityError as error:
        log.warning(
            "a certificate was wanted for something that is no identity", extra=fields(error=error)
        )
        return None
