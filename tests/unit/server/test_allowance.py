"""Allowance: buckets that hold a minute and fill steadily; a clock of our own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError, RequestError
from bloomery.server.allowance import Allowance, LimitReached, Limits


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_requests_a_minute_and_when_to_come_back():
    clock = Clock()
    allowance = Allowance(Limits(requests_per_minute=2), clock=clock)
    for _ in range(2):
        allowance.begin()
        allowance.end()
    with pytest.raises(LimitReached) as caught:
        allowance.begin()
    assert caught.value.retry_after_seconds == 30 and caught.value.status == 429
    headers = allowance.headers()
    assert headers["x-ratelimit-limit-requests"] == "2" and headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "60.000s"
    clock.now += 30
    allowance.begin()


def test_requests_at_once():
    allowance = Allowance(Limits(concurrent_requests=1))
    allowance.begin()
    with pytest.raises(LimitReached):
        allowance.begin()
    allowance.end()
    allowance.begin()


def test_tokens_may_be_overdrawn_once_and_are_paid_back():
    clock = Clock()
    allowance = Allowance(Limits(tokens_per_minute=60), clock=clock)
    allowance.begin()
    allowance.spend_tokens(90)  # the answer was longer than what was left
    with pytest.raises(LimitReached) as caught:
        allowance.begin()
    assert caught.value.retry_after_seconds == 31
    clock.now += 31
    allowance.begin()


def test_a_prompt_is_checked_before_it_is_read():
    allowance = Allowance(Limits(tokens_per_minute=60), clock=Clock())
    assert allowance.reserve_tokens(60) == 60
    allowance.return_tokens(60)
    allowance.spend_tokens(30)
    with pytest.raises(LimitReached):
        allowance.reserve_tokens(31)
    with pytest.raises(RequestError) as caught:
        allowance.reserve_tokens(61)
    assert caught.value.status == 400  # waiting would not help


@pytest.mark.parametrize("value", [0, -1, True, 10**13])
def test_limits_are_checked(value: int):
    with pytest.raises(ConfigError):
        Limits(requests_per_minute=value)


@given(st.integers(1, 500), st.lists(st.floats(0, 20), min_size=1, max_size=60))
def test_never_more_than_a_minutes_burst_and_the_rate(limit: int, waits: list[float]):
    clock = Clock()
    allowance, passed = Allowance(Limits(requests_per_minute=limit), clock=clock), 0
    for wait in waits:
        clock.now += wait
        for _ in range(20):
            try:
                allowance.begin()
            except LimitReached:
                break
            passed += 1
    assert passed <= limit + sum(waits) * limit / 60 + 1e-6


def test_no_limits_no_headers():
    allowance = Allowance()
    allowance.begin()
    allowance.reserve_tokens(10**9)
    assert allowance.headers() == {}


def test_what_may_be_written_is_set_aside_and_the_rest_comes_back():
    allowance = Allowance(Limits(tokens_per_minute=100), clock=Clock())
    assert allowance.reserve_tokens(20, 60) == 80
    with pytest.raises(LimitReached) as caught:  # a second one would overdraw what the first may still use
        allowance.reserve_tokens(20, 60)
    assert caught.value.retry_after_seconds == 36
    allowance.begin()  # what asks for no tokens is not held up
    allowance.return_tokens(70)
    assert allowance.headers()["x-ratelimit-remaining-tokens"] == "90"
    # Who may write more than a minute holds needs the whole of it, and is not locked out.
    allowance.return_tokens(50)
    assert allowance.headers()["x-ratelimit-remaining-tokens"] == "100"
    assert allowance.reserve_tokens(20, 10**6) == 100


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50), st.integers(0, 50)), max_size=40))
def test_reservations_never_overdraw(asked: list[tuple[int, int, int]]):
    allowance = Allowance(Limits(tokens_per_minute=100), clock=Clock())
    used, held = 0, []
    for prompt, new, written in asked:
        try:
            held.append((allowance.reserve_tokens(prompt, new), prompt + min(new, written)))
        except LimitReached:
            continue
    for taken, spent in held:
        allowance.return_tokens(taken - spent)
        used += spent
    assert used <= 100 and allowance.headers()["x-ratelimit-remaining-tokens"] == str(100 - used)
