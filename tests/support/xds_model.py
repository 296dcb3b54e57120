"""What a client of delta ADS must have said, computed from what the server told it: versions, ACKs and NACKs.

    model = Model(is_bad)
    mistakes = model.mistakes(istiod.observed.streams)

Knows nothing of the client: only the rules of spec/control.md §4.5 and §4.6. One uncertainty is left, and it is real: of
the responses that were not answered when a stream ended, the client has applied some, from the first one on.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeAlias

from ztunnel.testing.istiod import Verdict
from ztunnel.testing.istiod.observed import Asked, Told
from ztunnel.testing.istiod.resources import TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ztunnel.testing.istiod.observed import Stream

Held: TypeAlias = dict[str, str]
"""Versions by name."""
IsBad: TypeAlias = "Callable[[str, str, str], bool]"
"""Whether a resource of this type, name and version is one that must be refused."""


class Model:
    """Follows one client through its streams."""

    def __init__(self, is_bad: IsBad) -> None:
        self._is_bad = is_bad
        # What the client may hold, per type: nothing, before its first stream.
        self._held: dict[str, list[Held]] = {type_url: [{}] for type_url in TYPES}
        self.answers: defaultdict[str, int] = defaultdict(int)
        """How many ACKs and NACKs were as predicted."""

    def mistakes(self, streams: Iterable[Stream]) -> list[str]:
        """Everything that the client did otherwise, over all its streams in order."""
        found: list[str] = []
        for stream in streams:
            for type_url in TYPES:
                found += [f"stream {stream.number}: {m}" for m in self._follow(stream, type_url)]
        return found

    def held(self, type_url: str) -> list[Held]:
        """What it may hold now."""
        return self._held[type_url]

    def _follow(self, stream: Stream, type_url: str) -> list[str]:
        said = [
            each
            for each in stream.history
            if (each.type_url if isinstance(each, Told) else each.request.type_url) == type_url
        ]
        asked = [each for each in said if isinstance(each, Asked)]
        told = _legible([each for each in said if isinstance(each, Told)])
        if not asked:
            return []
        first, *rest = asked
        mistakes = self._first(first, type_url)
        states = [dict(first.request.initial_versions)]
        for response in told:
            states.append(self._after(states[-1], response))
        mistakes += self._answers(rest, told)
        answered = min(len(rest), len(told))
        # It has applied what it has answered, and perhaps more.
        self._held[type_url] = states[answered:]
        return mistakes

    def _first(self, first: Asked, type_url: str) -> list[str]:
        if first.verdict is not Verdict.FIRST or first.request.nonce or first.request.node is None:
            return [f"not a first request: {first}"]
        held = dict(first.request.initial_versions)
        if held in self._held[type_url]:
            return []
        nearest = min(self._held[type_url], key=lambda each: len(each.items() ^ held.items()))
        difference = sorted(nearest.items() ^ held.items())[:10]
        return [f"resumes with {len(held)} names of {type_url}; not as predicted: {difference}"]

    def _after(self, before: Held, response: Told) -> Held:
        # What is refused keeps the version that it had.
        good = (v for v in response.versions if not self._is_bad(response.type_url, *v))
        after = {**before, **dict(good)}
        for name in response.removed:
            after.pop(name, None)
        return after

    def _answers(self, asked: list[Asked], told: list[Told]) -> list[str]:
        if len(asked) > len(told):
            return [f"{len(asked)} answers to {len(told)} responses"]
        mistakes = []
        for each, response in zip(asked, told, strict=False):
            expected = [n for n, v in response.versions if self._is_bad(response.type_url, n, v)]
            if (mistake := _wrong(each, response, expected)) is not None:
                mistakes.append(mistake)
            else:
                self.answers["NACK" if expected else "ACK"] += 1
        return mistakes


def _legible(told: list[Told]) -> list[Told]:
    """Up to the first one that was damaged: its stream is over for whoever reads it."""
    damaged = next((at for at, each in enumerate(told) if each.damaged), len(told))
    return told[:damaged]


def _wrong(asked: Asked, response: Told, expected: list[str]) -> str | None:
    """What is wrong with the answer to a response in which these resources are bad."""
    request = asked.request
    if request.nonce != response.nonce:
        return f"answers {request.nonce} where {response.nonce} is next"
    if request.node is not None or request.subscribe or request.unsubscribe:
        return f"says more than yes or no: {request}"
    if request.error is None:
        return f"ACK of {response.nonce} in spite of {expected}" if expected else None
    named = [reason.partition(": ")[0] for reason in request.error.split("; ")]
    return None if named == expected else f"NACK names {named}, not {expected}: {request.error}"
