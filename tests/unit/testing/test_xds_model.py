"""The model of a delta ADS client can be contradicted: each mistake that a client may make, made."""

from __future__ import annotations

import dataclasses

import pytest

from tests.support.xds_model import Model
from ztunnel.testing.istiod import ADDRESS, Verdict
from ztunnel.testing.istiod.observed import Asked, Said, Stream, Told
from ztunnel.wire.discovery import DeltaRequest, WireNode

NODE = WireNode(id="x")


def first(**held: str) -> Asked:
    request = DeltaRequest(type_url=ADDRESS, node=NODE, initial_versions=tuple(held.items()))
    return Asked(request=request, verdict=Verdict.FIRST)


def answer(nonce: str, error: str | None = None) -> Asked:
    request = DeltaRequest(type_url=ADDRESS, nonce=nonce, error=error)
    return Asked(request=request, verdict=Verdict.ACK)


def told(nonce: str, *removed: str, **versions: str) -> Told:
    return Told(type_url=ADDRESS, nonce=nonce, versions=tuple(versions.items()), removed=removed)


def stream(*said: Said) -> Stream:
    made = Stream(number=1, headers={})
    made.history.extend(said)
    return made


def mistakes(*streams: Stream) -> list[str]:
    return Model(lambda type_url, name, version: version == "bad").mistakes(streams)


def test_a_client_without_mistakes_has_none() -> None:
    assert (
        mistakes(
            stream(
                first(),
                told("1", web="a", db="b"),
                answer("1"),
                told("2", "db", web="bad", shop="c"),
                answer("2", "web: why"),
            ),
            stream(first(web="a", shop="c"), told("3"), answer("3")),
        )
        == []
    )


@pytest.mark.parametrize("held", [{}, {"web": "a"}, {"web": "b"}])
def test_of_what_was_not_answered_any_beginning_may_be_held(held: dict[str, str]) -> None:
    lost = stream(first(), told("1", web="a"), told("2", web="b"))
    assert mistakes(lost, stream(first(**held))) == []


def test_what_is_held_follows_from_all_streams_before() -> None:
    streams = stream(first(), told("1", web="a"), answer("1")), stream(first(web="a"))
    # The second stream has asked, and was told nothing.
    assert mistakes(*streams, stream(first(web="a"))) == []


def test_what_was_damaged_is_neither_held_nor_answered() -> None:
    damaged = dataclasses.replace(told("1", web="a"), damaged=True)
    assert mistakes(stream(first(), damaged, told("2", db="b")), stream(first())) == []
    assert mistakes(stream(first(), damaged), stream(first(web="a"))) != []
    assert mistakes(stream(first(), damaged, answer("1"))) != []


@pytest.mark.parametrize(
    ("streams", "mistake"),
    [
        ([stream(first(web="a"))], "resumes with 1 names"),
        (
            [stream(first(), told("1", web="a"), answer("1")), stream(first())],
            "resumes with 0 names",
        ),
        (
            [stream(first(), told("1", web="a"), answer("1")), stream(first(web="b"))],
            "resumes with 1 names",
        ),
        (
            # What was refused must not be held.
            [
                stream(first(), told("1", web="bad"), answer("1", "web: x")),
                stream(first(web="bad")),
            ],
            "resumes with 1 names",
        ),
        (
            [
                stream(first(), told("1", web="a"), answer("1"), told("2", "web"), answer("2")),
                stream(first(web="a")),
            ],
            "resumes with 1 names",
        ),
        ([stream(answer("1"))], "not a first request"),
        ([stream(first(), told("1", web="bad"), answer("1"))], r"ACK of 1 in spite of \['web'\]"),
        ([stream(first(), told("1", web="a"), answer("1", "web: x"))], r"NACK names \['web'\]"),
        ([stream(first(), told("1", a="bad", b="bad"), answer("1", "b: x"))], "NACK names"),
        ([stream(first(), told("1"), told("2"), answer("2"))], "answers 2 where 1 is next"),
        ([stream(first(), told("1"), answer("1"), answer("1"))], "2 answers to 1 responses"),
    ],
)
def test_every_mistake_is_found(streams: list[Stream], mistake: str) -> None:
    with pytest.raises(AssertionError, match=mistake):
        assert mistakes(*streams) == []
