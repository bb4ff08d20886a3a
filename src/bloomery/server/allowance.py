"""Allowance: how many requests and tokens a minute, and how many requests at once, one key may have.

Requests and tokens are buckets that hold a minute's worth and fill steadily, so that a burst is possible and the
average is kept. How many tokens a request takes is only known when they have been made: what it may take at most is
set aside when it is let in, and what it did not take is given back at its end. Only a request that may take more than
a whole minute's tokens can overdraw its bucket, and the next waits until that is paid back. This module does not know
keys or HTTP.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from bloomery.core.errors import ConfigError, RequestError

_MINUTE = 60.0
_MOST = 10**12


@dataclass(frozen=True, kw_only=True)
class Limits:
    """None is no limit. ConfigError for a number that is not from 1."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Of prompts and answers together."""
    concurrent_requests: int | None = None

    def __post_init__(self) -> None:
        for name in ("requests_per_minute", "tokens_per_minute", "concurrent_requests"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not 1 <= value <= _MOST):
                raise ConfigError(f"{name} should be from 1 to {_MOST:,}, not {value}")


class LimitReached(RequestError):
    """429. `retry_after_seconds` is when the same request may pass."""

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message, hint="try again later", code="rate_limit_exceeded", status=429)
        self.retry_after_seconds = max(1, math.ceil(retry_after_seconds))


class _Bucket:
    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self.level = float(limit)
        self._filled = now

    def fill(self, now: float) -> None:
        self.level = min(self.limit, self.level + (now - self._filled) * self.limit / _MINUTE)
        self._filled = now

    def seconds_until(self, level: float) -> float:
        return max(0.0, (level - self.level) * _MINUTE / self.limit)


class Allowance:
    """Thread-safe. `clock` counts seconds and never goes back."""

    def __init__(self, limits: Limits | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits or Limits()
        self.running = 0
        self._clock = clock
        self._lock = threading.Lock()
        now = clock()
        self._requests = _Bucket(self.limits.requests_per_minute, now) if self.limits.requests_per_minute else None
        self._tokens = _Bucket(self.limits.tokens_per_minute, now) if self.limits.tokens_per_minute else None

    def begin(self) -> None:
        """Take one request, or raise LimitReached; `end()` gives its place back."""
        most = self.limits.concurrent_requests
        with self._lock:
            self._fill()
            if most is not None and self.running >= most:
                raise LimitReached(f"{self.running} requests of this key run already", retry_after_seconds=1)
            if self._requests is not None and self._requests.level < 1:
                message = f"this key may send {self._requests.limit:,} requests a minute"
                raise LimitReached(message, retry_after_seconds=self._requests.seconds_until(1))
            if self._tokens is not None and self._tokens.level < 0:
                message = f"this key may use {self._tokens.limit:,} tokens a minute"
                raise LimitReached(message, retry_after_seconds=self._tokens.seconds_until(1))
            if self._requests is not None:
                self._requests.level -= 1
            self.running += 1

    def end(self) -> None:
        with self._lock:
            self.running -= 1

    def spend_tokens(self, count: int) -> None:
        with self._lock:
            if self._tokens is not None:
                self._fill()
                self._tokens.level -= count

    def reserve_tokens(self, prompt: int, new: int = 0) -> int:
        """Set aside what a request reads and may write; returns how many, which `return_tokens` or spending settles.
        RequestError for a prompt that is larger than a whole minute's tokens, LimitReached if too few are left."""
        with self._lock:
            if self._tokens is None:
                return 0
            self._fill()
            if prompt > self._tokens.limit:
                message = f"{prompt:,} tokens are more than the {self._tokens.limit:,} that this key has for a minute"
                raise RequestError(message, code="rate_limit_exceeded", status=400)
            # Who may write more than a minute holds is not locked out, but needs the whole of it.
            count = min(prompt + new, self._tokens.limit)
            if count > self._tokens.level:
                message = f"this key may use {self._tokens.limit:,} tokens a minute, and this request {count:,}"
                raise LimitReached(message, retry_after_seconds=self._tokens.seconds_until(count))
            self._tokens.level -= count
            return count

    def return_tokens(self, count: int) -> None:
        """What was set aside and not used."""
        with self._lock:
            if self._tokens is not None:
                self._fill()
                self._tokens.level = min(self._tokens.limit, self._tokens.level + count)

    def headers(self) -> dict[str, str]:
        """OpenAI's x-ratelimit-* headers, for the limits that there are."""
        with self._lock:
            self._fill()
            found = {}
            for name, bucket in (("requests", self._requests), ("tokens", self._tokens)):
                if bucket is not None:
                    found[f"x-ratelimit-limit-{name}"] = str(bucket.limit)
                    found[f"x-ratelimit-remaining-{name}"] = str(max(0, math.floor(bucket.level)))
                    found[f"x-ratelimit-reset-{name}"] = f"{bucket.seconds_until(bucket.limit):.3f}s"
            return found

    def _fill(self) -> None:
        now = self._clock()
        for bucket in (self._requests, self._tokens):
            if bucket is not None:
                bucket.fill(now)
