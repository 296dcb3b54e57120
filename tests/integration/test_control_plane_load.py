"""C2: two proxies under one fake istiod whose mesh, streams, token and root change at random while traffic runs.

Eight seconds in every run, and the renewals of a root's rotation; `ZTUNNEL_LOAD_SECONDS=120` and `ZTUNNEL_LOAD_SEED=…` for a longer or for the same one again.
No byte of the applications may be wrong or missing, and what the proxies say to the control plane must be what a model
of the protocol says, which knows only what they were told.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from grpclib import Status

from tests.support.control_plane import START_DEADLINE, Proxy, Town
from tests.support.traffic import Traffic
from tests.support.xds_model import Model
from ztunnel.testing import BackgroundIstiod
from ztunnel.testing.istiod import ADDRESS, AUTHORIZATION, FakeIstiod, faults, mesh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ztunnel.testing.istiod.observed import Stream
    from ztunnel.testing.istiod.resources import Resource

SECONDS = float(os.environ.get("ZTUNNEL_LOAD_SECONDS", "8"))
APPLICATION = 8080
CONNECTIONS = 20
# Seconds that a renewal may be late.
PATIENCE = 30.0
# Renewed at half-life: every five seconds. No outage here lasts for as long.
LEAF_SECONDS = 10.0
STATUSES = (Status.UNAVAILABLE, Status.ABORTED, Status.INTERNAL, Status.CANCELLED, Status.OK)
BAD = mesh.broken_address().version


def is_bad(type_url: str, name: str, version: str) -> bool:
    """Bad Addresses have bad bytes and so one version; bad policies, which have none, a name of their own."""
    return version == BAD if type_url == ADDRESS else name.startswith("default/bad-")


class Churn:
    """What happens to the mesh and to its streams, by dice."""

    def __init__(self, town: Town, istiod: BackgroundIstiod, traffic: Traffic, seed: int) -> None:
        self._town, self._istiod, self._traffic = town, istiod, traffic
        self._dice = random.Random(seed)
        self.done: Counter[str] = Counter()
        self._acts: dict[Callable[[], None], int] = {
            self.strangers_come: 30,
            self.strangers_go: 15,
            self.a_service_changes: 10,
            self.a_policy_changes: 15,
            self.our_own_workload_changes: 5,
            self.something_bad_comes: 10,
            self.everything_is_pushed: 2,
            self.nothing_is_pushed: 2,
            self.streams_are_reset: 4,
            self.streams_end: 4,
            self.the_next_stream_is_slow: 2,
            self.the_next_answers_are_damaged: 3,
            self.it_freezes: 2,
            self.it_is_slow: 2,
            self.it_is_killed: 2,
            self.connections_grow_old: 2,
            self.tokens_are_rotated: 3,
        }

    def acts(self) -> None:
        """One thing; then traffic goes on, which is the pace of it all."""
        (act,) = self._dice.choices(list(self._acts), list(self._acts.values()))
        act()
        self.done[act.__name__] += 1
        self._traffic.goes_on(1)

    def strangers_come(self) -> None:
        self._istiod.put(*(self._stranger() for _ in range(self._dice.randrange(1, 20))))

    def strangers_go(self) -> None:
        self._istiod.remove(*(self._stranger() for _ in range(self._dice.randrange(1, 10))))

    def a_service_changes(self) -> None:
        number = self._dice.randrange(40)
        ports = {80: self._dice.randrange(1, 1000)}
        service = mesh.service(f"service-{number}", vip=f"10.96.1.{number}", ports=ports)
        (self._istiod.put if self._dice.random() < 0.7 else self._istiod.remove)(service)

    def a_policy_changes(self) -> None:
        # None of these speaks of the application's port, or of anybody who is there.
        name = f"policy-{self._dice.randrange(20)}"
        port = self._dice.randrange(1, APPLICATION)
        scope = self._dice.choice(["global", "namespace", "selector"])
        policy = mesh.policy(name, scope=scope, deny=True, ports=[port])
        (self._istiod.put if self._dice.random() < 0.7 else self._istiod.remove)(policy)

    def our_own_workload_changes(self) -> None:
        pod = self._dice.choice(list(self._town.address))
        policies = [f"default/policy-{self._dice.randrange(20)}"]
        service = f"default/service-{self._dice.randrange(40)}.default.svc.cluster.local"
        changed = self._town.workload(pod, policies=policies, services={service: {80: APPLICATION}})
        self._istiod.put(changed)

    def something_bad_comes(self) -> None:
        number = self._dice.randrange(10)
        # Names that were good before among them: what they were is kept.
        bad = mesh.broken_address(self._stranger().name)
        policies = mesh.broken_policy(f"default/bad-{number}"), mesh.policy("good", deny=True)
        self._istiod.put(self._stranger(), bad, self._stranger(), *policies)

    def everything_is_pushed(self) -> None:
        self._istiod.call(FakeIstiod.push_all)

    def nothing_is_pushed(self) -> None:
        self._istiod.call(FakeIstiod.push_nothing)

    def streams_are_reset(self) -> None:
        self._istiod.reset_streams()

    def streams_end(self) -> None:
        self._istiod.end_streams(self._dice.choice(STATUSES), "by dice")

    def the_next_stream_is_slow(self) -> None:
        for _ in self._istiod.mounts:
            self._istiod.next_stream(faults.Delay(0.3), faults.Delay(0.3))
        self._istiod.reset_streams()

    def the_next_answers_are_damaged(self) -> None:
        kinds: list[faults.Fault] = [faults.Garbage(), faults.Oversized()]
        for _ in self._istiod.mounts:
            self._istiod.next_stream(self._dice.choice(kinds), at=self._dice.randrange(1, 4))
        self._istiod.reset_streams()

    def it_freezes(self) -> None:
        self._istiod.freeze()
        self.strangers_come()
        self._traffic.goes_on(2)
        self._istiod.thaw()

    def it_is_slow(self) -> None:
        self._istiod.call(lambda server: setattr(server, "delay", 0.3))
        self._istiod.reset_streams()
        self._traffic.goes_on(2)
        self._istiod.call(lambda server: setattr(server, "delay", 0.0))

    def it_is_killed(self) -> None:
        self._istiod.stop()
        self.strangers_come()
        self._traffic.goes_on(2)
        self._istiod.start()

    def connections_grow_old(self) -> None:
        self._istiod.call(lambda server: server.port.go_away())

    def tokens_are_rotated(self) -> None:
        for pod in self._istiod.mounts:
            self._istiod.rotate_token(pod)
        self._istiod.reset_streams()

    def _stranger(self) -> Resource:
        number = self._dice.randrange(200)
        ip = f"10.8.{number}.{self._dice.randrange(1, 250)}"
        return mesh.workload(f"stranger-{number}", ip=ip, hbone=self._dice.random() < 0.5)


@pytest.mark.timeout(SECONDS + 120)
def test_no_byte_is_lost_and_the_model_is_right_while_everything_changes(tmp_path: Path) -> None:
    seed = int(os.environ.get("ZTUNNEL_LOAD_SEED", random.randrange(1 << 32)))
    print(f"ZTUNNEL_LOAD_SEED={seed}")  # noqa: T201 - shown if the test fails
    with ExitStack() as open_until_the_end:
        town = open_until_the_end.enter_context(Town(tmp_path, "client", "server", "late"))
        istiod = open_until_the_end.enter_context(BackgroundIstiod(tmp_path))
        istiod.call(_short_lives)
        istiod.put(*town.resources())
        pods = {pod: _proxy(town, istiod, pod) for pod in ("client", "server")}
        for pod in pods.values():
            open_until_the_end.push(pod.__exit__)
            open_until_the_end.callback(_tell_of_errors, pod)
            pod.begin()
        for pod in pods.values():
            pod.wait_until_ready()
        target = (town.address["server"], APPLICATION)
        way_in = pods["client"].bound["socks5"]
        with Traffic(way_in, target, connections=CONNECTIONS, seed=seed) as traffic:
            churn = Churn(town, istiod, traffic, seed)
            for is_over in _rotation(istiod):
                until = time.monotonic() + SECONDS / 4
                while time.monotonic() < until or not is_over():
                    churn.acts()
                    assert time.monotonic() < until + PATIENCE, "the new root has not arrived"
        _quiet(istiod, pods)
        # Or a first answer would have to be refused, which leaves a proxy waiting for the next one (control §4.6).
        istiod.call(_drop_what_is_bad)
        # Of the new root alone, and to a server that has lived through it all.
        late = open_until_the_end.enter_context(_proxy(town, istiod, "late"))
        pods["late"] = late
        with Traffic(late.bound["socks5"], (town.address["server"], APPLICATION)) as more:
            more.goes_on(3)
        _quiet(istiod, pods)
        cluster = istiod.call(_good)
        known = {name: pod.config_dump() for name, pod in pods.items()}
        streams = istiod.call(lambda server: list(server.observed.streams))
    assert traffic.failures == more.failures == []
    # The fake itself has made no mistake either.
    assert [s.ended for s in streams if s.ended and s.ended.endswith("Error")] == []
    answers = _follow(streams, list(pods), cluster)
    _as_in_the_cluster(known, cluster)
    signed = istiod.server.certificates.seen
    print(  # noqa: T201 - the figures of a long run, by `-s`
        f"{SECONDS:g} s: {sum(traffic.exchanges)} exchanges, {traffic.bytes / 1e6:.0f} MB, "
        f"{len(streams)} streams, {answers['ACK']} ACKs, {answers['NACK']} NACKs, "
        f"{len(signed)} certificates; {dict(churn.done)}"
    )
    assert answers["ACK"] > 20
    assert answers["NACK"] > 0
    assert len(streams) > 4
    assert len(signed) > 6


def _tell_of_errors(pod: Proxy) -> None:
    """For whoever reads a failure."""
    for line in list(pod.access.text):
        if '"error"' in line or '"level":"warn"' in line:
            print(pod.workload, line)  # noqa: T201


def _proxy(town: Town, istiod: BackgroundIstiod, pod: str) -> Proxy:
    told = istiod.environment(pod, namespace="default", account=pod)
    # Small tunnels that are not kept, so that new ones are made all the time.
    pool = {"POOL_MAX_STREAMS_PER_CONNECTION": "3", "POOL_UNUSED_RELEASE_TIMEOUT": "100ms"}
    return Proxy(town, pod, {**told, **pool})


def _short_lives(server: FakeIstiod) -> None:
    server.certificates.lifetime = LEAF_SECONDS
    server.certificates.backdating = 0.0


def _rotation(istiod: BackgroundIstiod) -> Iterator[Callable[[], bool]]:
    """The steps of a root's rotation, each over when every proxy has a certificate of after it; the first is none."""
    ca = istiod.server.certificates
    old = ca.signer

    def step(change: Callable[[], object]) -> Callable[[], bool]:
        def certified_again() -> bool:
            return len({each.grant.identity for each in list(ca.seen)[before:] if each.grant}) >= 2

        istiod.call(lambda server: change())
        istiod.call(FakeIstiod.renew_server_certificate)
        for mounts in istiod.mounts.values():
            mounts.roots.write(istiod.roots)
        before = len(ca.seen)
        return certified_again

    yield lambda: True
    yield step(ca.add_root)
    yield step(lambda: ca.sign_with(ca.trusted[-1], intermediates=1))
    yield step(lambda: ca.drop_root(old))


def _quiet(istiod: BackgroundIstiod, pods: dict[str, Proxy]) -> None:
    """Everybody has a stream, has answered everything, and resumes once more, so that all that it holds is seen."""

    async def answered(server: FakeIstiod) -> None:
        def all_of_them() -> bool:
            return sum(stream.introduced for stream in server.live()) == len(pods)

        await server.observed.wait(all_of_them, "a stream of every proxy", START_DEADLINE)
        await server.answered(START_DEADLINE)

    for _ in range(2):
        istiod.wait(answered, 2 * START_DEADLINE)
        opened = istiod.call(lambda server: server.observed.opened)
        istiod.reset_streams()
        istiod.attempted(opened + len(pods), START_DEADLINE)
    istiod.wait(answered, 2 * START_DEADLINE)


def _drop_what_is_bad(server: FakeIstiod) -> None:
    server.change(
        remove=[
            (type_url, name)
            for type_url in (ADDRESS, AUTHORIZATION)
            for name, version in server.cluster.versions(type_url).items()
            if is_bad(type_url, name, version)
        ]
    )


def _good(server: FakeIstiod) -> dict[str, dict[str, str]]:
    """What a client may hold at most: the cluster without what is bad."""
    return {
        type_url: {
            name: version
            for name, version in server.cluster.versions(type_url).items()
            if not is_bad(type_url, name, version)
        }
        for type_url in (ADDRESS, AUTHORIZATION)
    }


def _follow(
    streams: list[Stream], pods: list[str], cluster: dict[str, dict[str, str]]
) -> Counter[str]:
    """No mistake of any client, and each holds in the end what the cluster has; gives how many answers there were."""
    answers: Counter[str] = Counter()
    for pod in pods:
        model = Model(is_bad)
        mine = [stream for stream in streams if stream.name == f"{pod}.default"]
        assert model.mistakes(mine) == []
        for type_url, good in cluster.items():
            (held,) = model.held(type_url)
            # A name that is bad now and was good before keeps the version that it had.
            assert {name: held.get(name) for name in good} == good
        answers.update(model.answers)
    return answers


def _as_in_the_cluster(
    dumps: dict[str, dict[str, object]], cluster: dict[str, dict[str, str]]
) -> None:
    """Nothing is known by name alone: it is in the mesh that traffic is decided by."""
    for pod, dump in dumps.items():
        workloads, services, policies = (dump[k] for k in ("workloads", "services", "policies"))
        assert isinstance(workloads, list)
        assert isinstance(services, list)
        assert isinstance(policies, list)
        found = {each["uid"] for each in workloads}
        found |= {f"{each['namespace']}/{each['hostname']}" for each in services}
        assert found >= set(cluster[ADDRESS]), pod
        found = {f"{each['namespace']}/{each['name']}" for each in policies}
        assert found == set(cluster[AUTHORIZATION]), pod
