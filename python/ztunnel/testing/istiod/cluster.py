"""The cluster as istiod knows it: every resource by type and name, and who can be found by what.

A store and nothing more: no connections, no clock. `ads.py` asks it, `server.py` changes it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ztunnel.testing.istiod.resources import ADDRESS, TYPES, Pod, Resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One event of the cluster: what has come or changed, and which names have gone."""

    number: int
    """Of the push that it causes, from 1 on."""
    put: tuple[Resource, ...] = ()
    removed: tuple[tuple[str, str], ...] = ()
    """Each with its type URL before its name."""


class Cluster:
    """What istiod would find in Kubernetes."""

    def __init__(self) -> None:
        self.pushes = 0
        """Events so far; the push number of the next one is one more."""
        self._held: dict[str, dict[str, Resource]] = {type_url: {} for type_url in TYPES}
        # By alias, by the service's name and by the node's name: names of Addresses, in the order of their coming.
        self._by_alias: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._members: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._on_node: defaultdict[str, dict[str, None]] = defaultdict(dict)

    def change(
        self, put: Iterable[Resource] = (), remove: Iterable[tuple[str, str]] = ()
    ) -> Change:
        """Apply one event. A name that is not there may be removed: istiod says such names, too.

        Of a name that is put twice the last one counts: no response of istiod's has a name twice.
        """
        put = tuple({(each.type_url, each.name): each for each in put}.values())
        remove = tuple(remove)
        for resource in put:
            self._forget(resource.type_url, resource.name)
            self._keep(resource)
        for type_url, name in remove:
            self._forget(type_url, name)
        self.pushes += 1
        return Change(number=self.pushes, put=put, removed=remove)

    def all(self, type_url: str) -> list[Resource]:
        """Every resource of a type."""
        return list(self._held.get(type_url, {}).values())

    def get(self, type_url: str, name: str) -> Resource | None:
        """The resource of this name."""
        return self._held.get(type_url, {}).get(name)

    def versions(self, type_url: str) -> dict[str, str]:
        """What a client holds that has everything."""
        return {each.name: each.version for each in self.all(type_url)}

    def lookup(self, key: str) -> list[Resource]:
        """What a client means by a key of §4.8: a uid, `network/ip`, `namespace/hostname`, in this order.

        A service brings its workloads. Empty: nobody goes by this name.
        """
        addresses = self._held[ADDRESS]
        found = addresses.get(key)
        if found is None or found.facts.is_service:
            aliased = [addresses[name] for name in self._by_alias.get(key, ())]
            workloads = [each for each in aliased if not each.facts.is_service]
            if workloads:
                return workloads
            found = found or next(iter(aliased), None)
        if found is None:
            return []
        return [found, *self.members(found.name)] if found.facts.is_service else [found]

    def members(self, service: str) -> Iterator[Resource]:
        """The workloads of a service."""
        for name in self._members.get(service, ()):
            yield self._held[ADDRESS][name]

    def on_node(self, node: str) -> Iterator[Resource]:
        """The workloads that run on a node."""
        for name in self._on_node.get(node, ()) if node else ():
            yield self._held[ADDRESS][name]

    def pods(self) -> Iterator[Pod]:
        """Every pod among the workloads."""
        for resource in self._held[ADDRESS].values():
            if resource.facts.pod is not None:
                yield resource.facts.pod

    def _keep(self, resource: Resource) -> None:
        self._held.setdefault(resource.type_url, {})[resource.name] = resource
        for index, key in self._places(resource):
            index[key][resource.name] = None

    def _forget(self, type_url: str, name: str) -> None:
        gone = self._held.get(type_url, {}).pop(name, None)
        if gone is None:
            return
        for index, key in self._places(gone):
            index[key].pop(name, None)
            if not index[key]:
                del index[key]

    def _places(
        self, resource: Resource
    ) -> Iterator[tuple[defaultdict[str, dict[str, None]], str]]:
        facts = resource.facts
        for alias in dict.fromkeys(facts.aliases):
            yield self._by_alias, alias
        for service in dict.fromkeys(facts.services):
            yield self._members, service
        if facts.node:
            yield self._on_node, facts.node
