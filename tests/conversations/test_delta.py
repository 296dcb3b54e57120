"""Delta ADS as stories; the rows of spec/control.md §17.3 by their numbers."""

from __future__ import annotations

import pytest

from tests.support.delta import (
    ADDRESS,
    OPENED,
    POLICY,
    Story,
    absent,
    ack,
    applied,
    apply,
    connected,
    demand,
    disconnected,
    later,
    nack,
    named,
    response,
    subscribe,
    want,
    withdraw,
)
from ztunnel.testing import FakeRejection
from ztunnel.xds import delta
from ztunnel.xds.delta import Send
from ztunnel.xds.demand import ABSENCE, MAX_WAITING, PATIENCE, SILENCE

FOO = named("foo0", "v0.0.1")
BAD = named("bad", "v9.9.9")


def begun(story: Story) -> Story:
    """The first stream, with nothing held yet."""
    return story >> connected() << subscribe(ADDRESS, star=story.on_demand) << subscribe(POLICY)


def synced(story: Story) -> Story:
    """Both types have come once, empty."""
    return (
        begun(story)
        >> response(ADDRESS, nonce="a")
        << apply()
        >> applied()
        << ack(ADDRESS, "a")
        >> response(POLICY, nonce="p")
        << apply()
        >> applied()
        << OPENED
        << ack(POLICY, "p")
    )


def test_17_3_1_two_requests_with_the_node_and_no_versions_begin_a_stream() -> None:
    story = Story() >> connected() << subscribe(ADDRESS) << subscribe(POLICY)
    story.end()


def test_17_3_2_what_is_good_is_used_and_what_is_bad_is_named_and_the_gate_stays_closed() -> None:
    story = (
        begun(Story())
        >> response(ADDRESS, [FOO, BAD], nonce="1")
        << apply("foo0", "bad")
        >> applied(bad="decode: no protobuf")
        << nack(ADDRESS, "1", "bad: decode: no protobuf")
        >> response(POLICY, nonce="2")
        << apply()
        >> applied()
        << ack(POLICY, "2")
    )
    assert [key[1] for key in story.data_plane.resources] == ["foo0"]
    assert story.ledgers[ADDRESS].held == {"foo0": "v0.0.1"}
    story.end()


def test_17_3_3_a_new_stream_carries_the_versions_of_what_was_taken_and_only_those() -> None:
    story = (
        begun(Story())
        >> response(ADDRESS, [FOO, BAD], nonce="1")
        << apply("foo0", "bad")
        >> applied(bad="decode: no protobuf")
        << nack(ADDRESS, "1", "bad: decode: no protobuf")
        >> disconnected()
        >> connected()
        << subscribe(ADDRESS, initial={"foo0": "v0.0.1"})
        << subscribe(POLICY)
    )
    story.end()


def test_17_3_4_what_is_removed_is_gone_and_not_asked_for_again() -> None:
    story = (
        begun(Story())
        >> response(ADDRESS, [FOO], nonce="1")
        << apply("foo0")
        >> applied()
        << ack(ADDRESS, "1")
        >> response(ADDRESS, nonce="2", removed=["foo0", "never held"])
        << apply()
        >> applied()
        << ack(ADDRESS, "2")
        >> disconnected()
        >> connected()
        << subscribe(ADDRESS)
        << subscribe(POLICY)
    )
    assert story.data_plane.resources == {}
    story.end()


def test_17_3_6_the_gate_opens_after_one_acknowledged_answer_of_each_type_across_streams() -> None:
    story = (
        begun(Story())
        >> response(POLICY, nonce="1")
        << apply()
        >> applied()
        << ack(POLICY, "1")
        >> disconnected()
        >> connected()
        << subscribe(ADDRESS)
        << subscribe(POLICY)
        >> response(ADDRESS, [BAD], nonce="2")
        << apply("bad")
        >> applied(bad="no")
        << nack(ADDRESS, "2", "bad: no")
        >> response(ADDRESS, nonce="3")
        << apply()
        >> applied()
        << OPENED
        << ack(ADDRESS, "3")
        >> response(ADDRESS, nonce="4")
        << apply()
        >> applied()
        << ack(ADDRESS, "4")
    )
    story.end()


def test_17_3_7_on_demand_asks_for_nothing_first_and_for_a_key_when_it_is_wanted() -> None:
    story = (
        begun(Story(on_demand=True))
        >> response(POLICY, nonce="1")
        << apply()
        >> applied()
        << OPENED
        << ack(POLICY, "1")
        >> want("/10.0.0.1")
        << demand("/10.0.0.1")
        >> want("/10.0.0.1")
        >> response(ADDRESS, [named("pod", "v", aliases=("/10.0.0.1",))], nonce="2")
        << apply("pod")
        >> applied()
        << ack(ADDRESS, "2")
        >> later(2 * PATIENCE)
    )
    assert story.data_plane.absent == []
    story.end()


def test_of_a_refused_update_the_version_before_stays() -> None:
    story = (
        synced(Story())
        >> response(ADDRESS, [FOO], nonce="1")
        << apply("foo0")
        >> applied()
        << ack(ADDRESS, "1")
        >> response(ADDRESS, [named("foo0", "v2")], nonce="2")
        << apply("foo0")
        >> applied(foo0="no")
        << nack(ADDRESS, "2", "foo0: no")
        >> disconnected()
        >> connected()
        << subscribe(ADDRESS, initial={"foo0": "v0.0.1"})
        << subscribe(POLICY)
    )
    story.end()


def test_several_refusals_are_joined() -> None:
    story = (
        synced(Story())
        >> response(ADDRESS, [named("a"), named("b")], nonce="1")
        << apply("a", "b")
        >> applied(a="one", b="two")
        << nack(ADDRESS, "1", "a: one; b: two")
    )
    story.end()


def test_a_refusal_of_very_many_fits_into_a_request() -> None:
    story = synced(Story())
    story.subscription.receive(
        story.data_plane.read_delta(b"")  # what it brings does not matter here
    )
    many = [FakeRejection(type_url="", name=f"n{i}", reason="x" * 80) for i in range(100_000)]
    (effect,) = story.subscription.applied(many, story.now)
    assert isinstance(effect, Send)
    error = effect.request.error or ""
    assert len(error) < delta.MAX_REASONS + 100
    assert error.startswith("n0: xxx")
    named_there = error.count("; ")
    assert error.endswith(f"; and {100_000 - named_there} more")
    story.end()


def test_an_unknown_type_is_acknowledged_and_not_held() -> None:
    story = (
        synced(Story())
        >> response("type.googleapis.com/what", [FOO], nonce="1")
        << apply("foo0")
        >> applied()
        << ack("type.googleapis.com/what", "1")
        >> disconnected()
        >> connected()
        << subscribe(ADDRESS)
        << subscribe(POLICY)
    )
    assert story.data_plane.resources == {}
    story.end()


def test_one_answer_at_a_time() -> None:
    story = begun(Story())
    story >> response(ADDRESS, nonce="1") << apply()
    with pytest.raises(RuntimeError, match="another one is being applied"):
        story >> response(ADDRESS, nonce="2")
    story.end()


def test_an_answer_that_was_applied_after_its_stream_ended_is_nobodys() -> None:
    story = begun(Story())
    story >> response(ADDRESS, [FOO], nonce="1") << apply("foo0") >> disconnected()
    story >> applied() >> connected() << subscribe(ADDRESS, initial={"foo0": "v0.0.1"})
    story << subscribe(POLICY)
    story.end()


# A5 row 8: requests that the server's limit would refuse


def filled(story: Story, count: int) -> list[str]:
    names = [f"pod{i:05}" for i in range(count)]
    story >> response(ADDRESS, [named(n, "0123456789abcdef") for n in names], nonce="1")
    story << apply(*names) >> applied() << ack(ADDRESS, "1") >> disconnected()
    return names


def test_a5_8_a_resume_that_would_be_too_large_is_sent_whole_and_what_is_not_brought_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delta, "MAX_REQUEST", 4000)
    story = synced(Story())
    names = filled(story, 200)
    story >> connected() << subscribe(ADDRESS) << subscribe(POLICY)
    kept = [named(n, "0123456789abcdef") for n in names[:50]]
    story >> response(ADDRESS, kept, nonce="2") << apply(*names[:50], complete=True)
    story >> applied() << ack(ADDRESS, "2")
    assert sorted(name for _, name in story.data_plane.resources) == names[:50]
    # Only the first answer of the stream is complete, and as little as that fits again.
    story >> response(ADDRESS, nonce="3") << apply() >> applied() << ack(ADDRESS, "3")
    assert len(story.data_plane.resources) == 50
    held = dict.fromkeys(names[:50], "0123456789abcdef")
    story >> disconnected() >> connected() << subscribe(ADDRESS, initial=held) << subscribe(POLICY)
    story.end()


def test_a5_8_of_a_complete_answer_the_refused_ones_stay_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delta, "MAX_REQUEST", 4000)
    story = synced(Story())
    names = filled(story, 200)
    story >> connected() << subscribe(ADDRESS) << subscribe(POLICY)
    (
        story
        >> response(ADDRESS, [named(names[0], "new")], nonce="2")
        << apply(names[0], complete=True)
    )
    story >> applied(pod00000="no") << nack(ADDRESS, "2", "pod00000: no")
    assert story.ledgers[ADDRESS].held == {names[0]: "0123456789abcdef"}
    assert [name for _, name in story.data_plane.resources] == [names[0]]
    story.end()


def test_a5_8_a_refused_size_is_not_tried_again_and_a_smaller_one_is() -> None:
    story = synced(Story())
    names = filled(story, 200)
    held = dict.fromkeys(names, "0123456789abcdef")
    story >> connected() << subscribe(ADDRESS, initial=held) << subscribe(POLICY)
    assert story.subscription.too_large(4000)
    story >> disconnected() >> connected() << subscribe(ADDRESS) << subscribe(POLICY)
    assert not story.subscription.too_large(100), "what has no versions cannot be smaller"
    story >> response(ADDRESS, [named(names[0], "v")], nonce="2") << apply(names[0], complete=True)
    story >> applied() << ack(ADDRESS, "2") >> disconnected() >> connected()
    story << subscribe(ADDRESS, initial={names[0]: "v"}) << subscribe(POLICY)
    story.end()


# On demand: istiod's habits (istio.md A3.5)


def test_a_name_that_nobody_has_is_said_to_be_absent_and_not_asked_for_again_at_once() -> None:
    story = synced(Story(on_demand=True)) >> want("/10.1.2.3") << demand("/10.1.2.3")
    story >> response(ADDRESS, nonce="1", removed=["/10.1.2.3"]) << apply()
    story >> applied() << absent("/10.1.2.3") << ack(ADDRESS, "1")
    story >> want("/10.1.2.3") << absent("/10.1.2.3")
    story >> later(ABSENCE) >> want("/10.1.2.3")
    # The name counts as subscribed there: asked again as it was, it would get no answer at all.
    story << withdraw("/10.1.2.3") << demand("/10.1.2.3")
    story.end()


def test_a_name_that_gets_no_answer_is_asked_for_once_more_and_then_given_up() -> None:
    story = synced(Story(on_demand=True)) >> want("ns/host") << demand("ns/host")
    story >> later(SILENCE / 2) >> later(SILENCE / 2) << withdraw("ns/host") << demand("ns/host")
    story >> later(PATIENCE - SILENCE - 0.1)
    story >> later(0.1) << absent("ns/host")
    assert story.subscription.wake_at() is None
    story.end()


def test_a_name_without_a_stream_waits_for_one_and_not_for_ever() -> None:
    story = Story(on_demand=True) >> want("a") >> later(1) >> want("b")
    story >> connected() << subscribe(ADDRESS, star=True, initial={"a": "", "b": ""})
    story << subscribe(POLICY)
    story >> response(ADDRESS, [named("a", "v")], nonce="1") << apply("a") >> applied()
    story << ack(ADDRESS, "1") >> disconnected() >> later(PATIENCE) << absent("b")
    story.end()


def test_names_that_are_waited_for_begin_the_next_stream_without_a_version() -> None:
    story = synced(Story(on_demand=True))
    story >> response(ADDRESS, [FOO], nonce="1") << apply("foo0") >> applied() << ack(ADDRESS, "1")
    story >> want("uid") << demand("uid") >> disconnected() >> later(0.5) >> connected()
    story << subscribe(ADDRESS, star=True, initial={"foo0": "v0.0.1", "uid": ""})
    story << subscribe(POLICY) >> later(0.5)
    story >> later(SILENCE) << withdraw("uid") << demand("uid")
    story.end()


def test_names_that_fit_into_no_first_request_are_asked_for_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delta, "MAX_REQUEST", 400)
    story = synced(Story(on_demand=True))
    held = [f"pod{i}" for i in range(50)]
    story >> response(ADDRESS, [named(n, "v") for n in held], nonce="1") << apply(*held)
    story >> applied() << ack(ADDRESS, "1") >> disconnected() >> want("x") >> connected()
    story << subscribe(ADDRESS, star=True) << subscribe(POLICY) >> later(0) << demand("x")
    # Without versions the server knows of nothing that we hold: it would go stale.
    story >> response(ADDRESS, [named("pod0", "v")], nonce="2") << apply("pod0", complete=True)
    story >> applied() << ack(ADDRESS, "2")
    assert [name for _, name in story.data_plane.resources] == ["pod0"]
    story.end()


def test_an_answer_that_is_refused_ends_the_waiting_too() -> None:
    story = synced(Story(on_demand=True)) >> want("bad") << demand("bad")
    story >> response(ADDRESS, [BAD], nonce="1") << apply("bad") >> applied(bad="no")
    story << absent("bad") << nack(ADDRESS, "1", "bad: no")
    story.end()


def test_a_name_that_is_updated_and_removed_by_one_answer_is_gone() -> None:
    story = synced(Story(on_demand=True)) >> want("foo0") << demand("foo0")
    story >> response(ADDRESS, [FOO], nonce="1", removed=["foo0"]) << apply("foo0") >> applied()
    story << absent("foo0") << ack(ADDRESS, "1")
    story.end()


def test_too_many_names_at_once_are_not_asked_for() -> None:
    story = synced(Story(on_demand=True))
    for i in range(MAX_WAITING):
        story >> want(f"n{i}") << demand(f"n{i}")
    story >> want("one more") << absent("one more")
    story >> want("n0")
    story.end()


def test_names_that_are_wanted_at_once_are_asked_for_at_once() -> None:
    story = synced(Story(on_demand=True))
    assert story.subscription.want("a", story.now) == []
    assert story.subscription.want("b", story.now) == []
    story >> later(0) << demand("a", "b")
    story.end()


def test_without_on_demand_nothing_is_asked_for() -> None:
    story = synced(Story()) >> want("/10.0.0.1") << absent("/10.0.0.1")
    story.end()
