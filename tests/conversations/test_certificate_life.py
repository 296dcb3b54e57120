"""The life of certificates, told as wishes and answers (`>>`) and what the schedule makes of them (`<<`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import pytest

from ztunnel.identity.schedule import (
    MAX_IN_FLIGHT,
    NOT_NEEDED,
    CertificateSchedule,
    Effect,
    Priority,
    Request,
    Validity,
)
from ztunnel.identity.spiffe import Identity
from ztunnel.testing import ManualClock

HOUR = 3600.0
DAY = 24 * HOUR


@dataclass
class Story:
    """A conversation under way. `>>` says something to the schedule, `<<` is all that it then wants done."""

    random: Callable[[], float] = lambda: 0.5  # the middle: no jitter
    clock: ManualClock = field(default_factory=ManualClock)
    at_once: int = MAX_IN_FLIGHT
    waiting: list[Effect] = field(default_factory=list)
    tickets: dict[Identity, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.schedule = CertificateSchedule(self.random, at_once=self.at_once)

    def __rshift__(self, step: Step) -> Story:
        assert self.waiting == [], "effects that the story does not tell of"
        self.waiting += step(self)
        self.waiting += self.schedule.next(self.clock.now())
        for effect in self.waiting:
            if isinstance(effect, Request):
                self.tickets[effect.identity] = effect.ticket
        return self

    def __lshift__(self, expected: tuple[str, Identity]) -> Story:
        assert self.waiting, f"nothing happens, but the story tells of {expected}"
        effect = self.waiting.pop(0)
        assert (type(effect).__name__.lower(), effect.identity) == expected
        return self

    def end(self) -> None:
        assert self.waiting == []


Step: TypeAlias = Callable[[Story], list[Effect]]


def want(identity: Identity, priority: Priority = Priority.WARMUP) -> Step:
    def step(story: Story) -> list[Effect]:
        story.schedule.want(identity, priority, story.clock.now())
        return []

    return step


def forget(identity: Identity) -> Step:
    return lambda story: story.schedule.forget(identity)


def issued(identity: Identity, *, lifetime: float, age: float = 0) -> Step:
    """The authority answers with a certificate that began `age` seconds ago and lives for `lifetime` in all."""

    def step(story: Story) -> list[Effect]:
        now = story.clock.now()
        begins = now.wall - age
        validity = Validity(not_before=begins, not_after=begins + lifetime)
        if story.schedule.objection(story.tickets[identity], validity, now) is None:
            story.schedule.issued(story.tickets[identity], validity, now)
        else:
            story.schedule.failed(story.tickets[identity], now)
        return []

    return step


def failed(identity: Identity) -> Step:
    def step(story: Story) -> list[Effect]:
        story.schedule.failed(story.tickets[identity], story.clock.now())
        return []

    return step


def after(seconds: float) -> Step:
    def step(story: Story) -> list[Effect]:
        story.clock.pass_time(seconds)
        return []

    return step


def jump(seconds: float) -> Step:
    def step(story: Story) -> list[Effect]:
        story.clock.jump(seconds)
        return []

    return step


def request(identity: Identity) -> tuple[str, Identity]:
    return "request", identity


def expired(identity: Identity) -> tuple[str, Identity]:
    return "expired", identity


def forgotten(identity: Identity) -> tuple[str, Identity]:
    return "forget", identity


WEB = Identity.parse("spiffe://cluster.local/ns/default/sa/web")
SHOP = Identity.parse("spiffe://cluster.local/ns/default/sa/shop")


def crowd(number: int) -> list[Identity]:
    return [Identity("cluster.local", "crowd", f"w{n}") for n in range(number)]


def test_a_certificate_is_renewed_at_half_of_its_life() -> None:
    story = Story() >> want(WEB) << request(WEB) >> issued(WEB, lifetime=DAY)
    story = story >> after(DAY / 2 - 1) >> after(1) << request(WEB) >> issued(WEB, lifetime=DAY)
    (story >> after(DAY / 2 - 1) >> after(1) << request(WEB)).end()


@pytest.mark.parametrize(("drawn", "share"), [(0.0, 0.9), (0.5, 1.0), (0.999999, 1.1)])
def test_renewals_spread_over_ten_percent_on_both_sides(drawn: float, share: float) -> None:
    story = Story(random=lambda: drawn) >> want(WEB) << request(WEB) >> issued(WEB, lifetime=DAY)
    (story >> after(DAY / 2 * share - 1) >> after(2) << request(WEB)).end()


def test_a_wish_for_something_in_use_asks_for_nothing() -> None:
    story = Story() >> want(WEB) << request(WEB) >> want(WEB) >> issued(WEB, lifetime=DAY)
    (story >> want(WEB, Priority.REALTIME)).end()


def test_renewal_failure_keeps_the_old_certificate_and_backs_off() -> None:
    story = Story() >> want(WEB) << request(WEB) >> issued(WEB, lifetime=DAY)
    story = story >> after(DAY / 2) << request(WEB) >> failed(WEB)
    for pause in (1, 2, 4, 8, 16, 32, 64, 128, 150, 150):
        story = story >> after(pause - 0.1) >> after(0.2) << request(WEB) >> failed(WEB)
    story.end()


@pytest.mark.parametrize(("drawn", "pause"), [(0.0, 0.8), (0.999999, 1.2)])
def test_pauses_spread_over_twenty_percent_on_both_sides(drawn: float, pause: float) -> None:
    story = Story(random=lambda: drawn) >> want(WEB) << request(WEB) >> failed(WEB)
    (story >> after(pause - 0.01) >> after(0.02) << request(WEB)).end()


def test_after_a_quarter_of_an_hour_of_failures_every_pause_is_the_longest() -> None:
    story = (
        Story()
        >> want(WEB)
        << request(WEB)
        >> failed(WEB)
        >> after(16 * 60)
        << request(WEB)
        >> failed(WEB)
    )
    (story >> after(149) >> after(1) << request(WEB)).end()


def test_one_identity_that_fails_delays_no_other() -> None:
    story = Story() >> want(WEB) << request(WEB) >> failed(WEB)
    (story >> want(SHOP) << request(SHOP) >> issued(SHOP, lifetime=DAY)).schedule.next(
        Story().clock.now()
    )


def test_a_retry_comes_no_later_than_the_end_of_the_certificate_in_use() -> None:
    story = Story() >> want(WEB) << request(WEB) >> issued(WEB, lifetime=200)
    story = story >> after(100) << request(WEB)
    for pause in (1, 2, 4, 8, 16, 32):  # 63 s gone, 37 left: the next pause would be 64
        story = story >> failed(WEB) >> after(pause) << request(WEB)
    (story >> failed(WEB) >> after(36.5) >> after(0.6) << expired(WEB) << request(WEB)).end()


def test_an_expired_certificate_is_told_of_once() -> None:
    story = (
        Story() >> want(WEB) << request(WEB) >> issued(WEB, lifetime=10) >> after(5) << request(WEB)
    )
    story = story >> after(5) << expired(WEB) >> after(1)
    story = (
        story >> issued(WEB, lifetime=10) >> after(5) << request(WEB) >> after(5) << expired(WEB)
    )
    story.end()


def test_when_the_authority_answers_again_the_others_do_not_wait_out_their_pauses() -> None:
    story = Story() >> want(WEB) << request(WEB) >> want(SHOP) << request(SHOP)
    for pause in (1, 2, 4, 8, 16, 32, 64):
        story = (
            story >> failed(WEB) >> failed(SHOP) >> after(pause) << request(WEB) << request(SHOP)
        )
    story = story >> failed(SHOP) >> issued(WEB, lifetime=DAY)
    (story >> after(0.5) << request(SHOP)).end()


def test_eight_requests_at_once_and_a_waiting_connection_goes_first() -> None:
    story = Story()
    first, rest = crowd(20)[:MAX_IN_FLIGHT], crowd(20)[MAX_IN_FLIGHT:]
    for identity in first:
        story = story >> want(identity) << request(identity)
    for identity in rest:
        story = story >> want(identity)
    story = story >> want(WEB, Priority.REALTIME) >> want(rest[5], Priority.REALTIME)
    # Among equals the one that waits longest: rest[5] was wanted before WEB, though not so urgently.
    story = story >> issued(first[0], lifetime=DAY) << request(rest[5])
    story = story >> issued(first[1], lifetime=DAY) << request(WEB)
    (story >> issued(first[2], lifetime=DAY) << request(rest[0])).end()


def test_renewals_wait_for_those_who_have_nothing() -> None:
    story = Story() >> want(WEB) << request(WEB) >> issued(WEB, lifetime=DAY)
    others = crowd(MAX_IN_FLIGHT)
    for identity in others:
        story = story >> want(identity) << request(identity)
    story = story >> after(DAY / 2) >> want(SHOP)
    story = story >> failed(others[0]) << request(SHOP)
    (story >> failed(others[1]) << request(WEB)).end()


def test_what_is_forgotten_is_not_renewed_and_its_late_answer_is_thrown_away() -> None:
    story = Story() >> want(WEB) << request(WEB) >> forget(WEB) << forgotten(WEB)
    (story >> issued(WEB, lifetime=DAY) >> after(10 * DAY) >> forget(WEB)).end()


def test_a_late_answer_to_a_forgotten_wish_does_not_count_for_the_new_one() -> None:
    story = Story() >> want(WEB) << request(WEB)
    old = story.tickets[WEB]
    story = story >> forget(WEB) << forgotten(WEB) >> want(WEB) << request(WEB)
    now = story.clock.now()
    forever = Validity(not_before=now.wall, not_after=now.wall + DAY)
    assert story.schedule.objection(old, forever, now) == NOT_NEEDED
    assert story.schedule.failed(old, now) is None
    assert story.schedule.objection(story.tickets[WEB], forever, now) is None


def test_wanting_and_forgetting_in_turn_starts_no_more_than_eight_requests() -> None:
    story = Story()
    for _ in range(MAX_IN_FLIGHT):
        story = story >> want(WEB) << request(WEB) >> forget(WEB) << forgotten(WEB)
    (story >> want(WEB)).end()


# spec/control.md §17.4, row by row: one request at a time, each takes a second, certificates live for 100 s. What a
# caller is told in the third and the last row is `tests/unit/identity/test_manager.py`'s.

ID1, ID2, ID3, ID4 = (Identity("cluster.local", "rows", f"id{n}") for n in range(1, 5))
LIFE = 100.0


def alone() -> Story:
    return Story(at_once=1)


def test_row_1_requests_go_by_priority_and_refresh_at_half_life() -> None:
    story = alone() >> want(ID1, Priority.BACKGROUND) << request(ID1)
    story = story >> want(ID2, Priority.BACKGROUND) >> want(ID3, Priority.WARMUP)
    story = story >> want(ID4, Priority.REALTIME)
    for done, following in ((ID1, ID4), (ID4, ID3), (ID3, ID2)):
        story = story >> after(1) >> issued(done, lifetime=LIFE) << request(following)
    story = story >> after(1) >> issued(ID2, lifetime=LIFE)
    # The first is three seconds old; each is due fifty seconds after it began.
    story = story >> after(LIFE / 2 - 3) << request(ID1)
    for done, following in ((ID1, ID4), (ID4, ID3), (ID3, ID2)):
        story = story >> after(1) >> issued(done, lifetime=LIFE) << request(following)
    (story >> issued(ID2, lifetime=LIFE)).end()


def test_row_2_a_second_wish_moves_it_ahead_and_duplicates_share_one_request() -> None:
    story = alone() >> want(ID1) << request(ID1)
    story = story >> want(ID2) >> want(ID3) >> want(ID3, Priority.REALTIME) >> want(ID3)
    story = story >> want(ID1, Priority.REALTIME) >> want(ID1)
    story = story >> issued(ID1, lifetime=LIFE) << request(ID3)
    story = story >> want(ID3) >> issued(ID3, lifetime=LIFE) << request(ID2)
    (story >> issued(ID2, lifetime=LIFE) >> want(ID3, Priority.REALTIME)).end()


def test_row_3_a_wish_for_what_has_just_failed_asks_for_nothing_and_a_retry_comes_in_a_second() -> (
    None
):
    story = alone() >> want(ID1, Priority.REALTIME) << request(ID1) >> failed(ID1)
    story = story >> want(ID1, Priority.REALTIME) >> after(0.9) >> want(ID1, Priority.REALTIME)
    (story >> after(0.1) << request(ID1) >> issued(ID1, lifetime=LIFE)).end()


def test_row_4_a_refresh_that_fails_is_tried_until_expiry_and_success_resets_the_pause() -> None:
    story = alone() >> want(ID1) << request(ID1) >> issued(ID1, lifetime=LIFE)
    story = story >> after(LIFE / 2) << request(ID1)
    spent = LIFE / 2
    for pause in (1, 2, 4, 8, 16):
        story = story >> failed(ID1) >> after(pause) << request(ID1)
        spent += pause
    # The next pause would be 32 s; the certificate has less than that left.
    story = story >> failed(ID1) >> after(LIFE - spent) << expired(ID1) << request(ID1)
    story = story >> issued(ID1, lifetime=LIFE) >> after(LIFE / 2) << request(ID1)
    (story >> failed(ID1) >> after(1) << request(ID1)).end()


def test_row_5_what_is_forgotten_while_it_is_asked_for_is_thrown_away_and_may_be_wanted_again() -> (
    None
):
    story = alone() >> want(ID1) << request(ID1) >> forget(ID1) << forgotten(ID1)
    story = story >> issued(ID1, lifetime=LIFE) >> after(LIFE)
    (story >> want(ID1) << request(ID1) >> issued(ID1, lifetime=LIFE)).end()


def test_a_certificate_that_does_not_count_yet_does_not_replace_one_that_does() -> None:
    story = Story() >> want(WEB) << request(WEB) >> issued(WEB, lifetime=DAY)
    story = story >> after(DAY / 2) << request(WEB) >> issued(WEB, lifetime=DAY, age=-HOUR)
    story = story >> after(1) << request(WEB)
    # Where there is none, it is better than nothing: it may be our clock that is wrong.
    (story >> want(SHOP) << request(SHOP) >> issued(SHOP, lifetime=DAY, age=-HOUR)).end()


# Clocks that jump (reliability F28)


def test_a_clock_that_jumps_past_half_life_renews_at_once_and_only_once() -> None:
    story = Story() >> want(WEB) << request(WEB) >> issued(WEB, lifetime=DAY)
    story = story >> jump(13 * HOUR) << request(WEB) >> issued(WEB, lifetime=DAY)
    (story >> after(60)).end()


def test_a_clock_that_was_set_back_before_the_certificate_begins_gets_one_that_counts_now() -> None:
    story = Story() >> want(WEB) << request(WEB) >> issued(WEB, lifetime=DAY, age=60)
    (
        story >> jump(-30) >> jump(-HOUR) << request(WEB) >> issued(WEB, lifetime=DAY) >> after(60)
    ).end()


def test_certificates_that_have_ended_when_they_come_are_not_asked_for_in_a_loop() -> None:
    story = Story() >> want(WEB) << request(WEB) >> issued(WEB, lifetime=10, age=20) << expired(WEB)
    story = story >> after(0.9) >> after(0.2) << request(WEB)
    # The second is no better than the first, and no worse: it is taken, and the pause grows.
    (
        story
        >> issued(WEB, lifetime=10, age=20)
        << expired(WEB)
        >> after(1.9)
        >> after(0.2)
        << request(WEB)
    ).end()


def test_a_certificate_that_does_not_count_yet_is_no_reason_to_stop_asking() -> None:
    # Peers refuse it for an hour; the authority's next answer may come from a replica whose clock is right.
    story = Story() >> want(WEB) << request(WEB) >> issued(WEB, lifetime=DAY, age=-HOUR)
    story = story >> after(0.9) >> after(0.2) << request(WEB)
    story = (
        story >> issued(WEB, lifetime=DAY, age=-HOUR) >> after(1.9) >> after(0.2) << request(WEB)
    )
    story = story >> issued(WEB, lifetime=DAY) >> after(DAY / 2 - 1) >> after(1) << request(WEB)
    story.end()


def test_a_certificate_that_has_ended_does_not_replace_one_that_counts() -> None:
    story = (
        Story()
        >> want(WEB)
        << request(WEB)
        >> issued(WEB, lifetime=DAY)
        >> after(DAY / 2)
        << request(WEB)
    )
    (story >> issued(WEB, lifetime=10, age=20) >> after(0.9) >> after(0.2) << request(WEB)).end()


def test_a_certificate_that_comes_old_is_renewed_at_half_of_what_is_left() -> None:
    story = Story() >> want(WEB) << request(WEB) >> issued(WEB, lifetime=100, age=80)
    (story >> after(9) >> after(1) << request(WEB)).end()


@pytest.mark.parametrize("lifetime", [0.001, 0.5, 1.5])
def test_no_certificate_is_renewed_more_than_once_a_second(lifetime: float) -> None:
    story = Story() >> want(WEB) << request(WEB) >> issued(WEB, lifetime=lifetime)
    asked = 0
    for _ in range(100):
        story.clock.pass_time(0.05)
        effects = story.schedule.next(story.clock.now())
        if any(isinstance(effect, Request) for effect in effects):
            asked += 1
            story.tickets[WEB] = next(e.ticket for e in effects if isinstance(e, Request))
            issued(WEB, lifetime=lifetime)(story)
    assert asked <= 5


def test_a_certificate_for_ten_thousand_years_is_no_trouble() -> None:
    story = Story() >> want(WEB) << request(WEB) >> issued(WEB, lifetime=10_000 * 365 * DAY)
    (story >> after(365 * DAY)).end()


# When to look again


def test_with_nothing_wanted_there_is_nothing_to_wake_up_for() -> None:
    assert Story().schedule.wake_at(ManualClock().now()) is None


def test_while_a_certificate_is_in_use_the_wall_clock_is_looked_at_every_five_seconds() -> None:
    story = Story() >> want(WEB) << request(WEB) >> issued(WEB, lifetime=DAY)
    now = story.clock.now()
    assert story.schedule.wake_at(now) == now.monotonic + 5


def test_a_pause_is_slept_through_to_its_end() -> None:
    story = Story() >> want(WEB) << request(WEB) >> failed(WEB)
    now = story.clock.now()
    assert story.schedule.wake_at(now) == now.monotonic + 1
