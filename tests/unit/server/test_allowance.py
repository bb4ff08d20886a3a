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
    allowance.check_tokens(60)
    allowance.spend_tokens(30)
    with pytest.raises(LimitReached):
        allowance.check_tokens(31)
    with pytest.raises(RequestError) as caught:
        allowance.check_tokens(61)
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
    allowance.check_tokens(10**9)
    assert allowance.headers() == {}
