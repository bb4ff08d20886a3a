"""SamplingParams: what a request may ask of the engine, validated.

Every number is checked here, once, for Python callers and the server alike. This module does not know
prompts, models or tokenizers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bloomery.core.errors import RequestError
from bloomery.engine.constraint_spec import ConstraintSpec, spec_of

MAX_TOP_LOGPROBS = 20
MAX_STOP_STRINGS = 16
MAX_STOP_CHARACTERS = 1_000
_MAX_NEW_TOKENS = 2**31 - 1
_MAX_TEMPERATURE = 100.0


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How one request is sampled. Raises RequestError for a value out of range; `param` names the field."""

    max_new_tokens: int = 128
    """Tokens to generate at most; the model's context may end a request sooner. 0 only scores the prompt."""
    temperature: float = 1.0
    """Divides the logits; 0 is greedy and turns top-k, top-p and min-p off."""
    top_k: int | None = None
    """Keep the k most probable tokens (ties with the k-th are kept); None or 0 keeps all."""
    top_p: float | None = None
    """Keep the smallest set of most probable tokens whose probabilities reach this sum (Holtzman et al. 2020)."""
    min_p: float | None = None
    """Keep tokens at least this many times as probable as the most probable one (Nguyen et al. 2025)."""
    seed: int | None = None
    """Seed of the request's own generator; None draws a fresh one."""
    stop: tuple[str, ...] = ()
    """Strings that end the generation; the string itself is not returned."""
    logprobs: int | None = None
    """How many alternatives to return for each new token; the token's own log-probability is always returned."""
    prompt_logprobs: int | None = None
    """How many alternatives to return for each prompt token; None computes nothing for the prompt."""
    ignore_eos: bool = False
    """Go on after an end-of-sequence token (for measurements)."""
    constraint: ConstraintSpec | Mapping[str, Any] | None = field(default=None, hash=False)
    """The texts that are allowed: a ConstraintSpec, or what `constraint_spec.spec_of` makes one of."""

    def __post_init__(self) -> None:
        _whole("max_new_tokens", self.max_new_tokens, 0, _MAX_NEW_TOKENS)
        _real("temperature", self.temperature, 0.0, _MAX_TEMPERATURE)
        _whole("top_k", self.top_k, 0, _MAX_NEW_TOKENS, optional=True)
        _real("top_p", self.top_p, 0.0, 1.0, optional=True)
        _real("min_p", self.min_p, 0.0, 1.0, optional=True)
        _whole("seed", self.seed, -(2**63), 2**64 - 1, optional=True)
        _whole("logprobs", self.logprobs, 0, MAX_TOP_LOGPROBS, optional=True)
        _whole("prompt_logprobs", self.prompt_logprobs, 0, MAX_TOP_LOGPROBS, optional=True)
        if not isinstance(self.ignore_eos, bool):
            raise RequestError(f"ignore_eos should be true or false, not {self.ignore_eos!r:.40}", param="ignore_eos")
        object.__setattr__(self, "stop", _stop_strings(self.stop))
        if self.constraint is not None:
            object.__setattr__(self, "constraint", spec_of(self.constraint))
            if self.ignore_eos:
                raise RequestError("ignore_eos and a constraint exclude each other", param="ignore_eos")


def _stop_strings(stop: Any) -> tuple[str, ...]:
    if stop is None:
        return ()
    if isinstance(stop, str):
        stop = (stop,)
    if not isinstance(stop, Sequence):
        raise RequestError("stop should be a string or a list of strings", param="stop")
    if len(stop) > MAX_STOP_STRINGS:
        raise RequestError(f"{len(stop)} stop strings are more than {MAX_STOP_STRINGS}", param="stop")
    for text in stop:
        if not isinstance(text, str) or not 0 < len(text) <= MAX_STOP_CHARACTERS:
            raise RequestError(f"a stop string has 1 to {MAX_STOP_CHARACTERS} characters", param="stop")
    return tuple(stop)


def _whole(name: str, value: Any, low: int, high: int, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise RequestError(f"{name} should be a whole number, not {_shown(value)}", param=name)
    if not low <= value <= high:
        raise RequestError(f"{name} should be from {low} to {high}, not {_shown(value)}", param=name)


def _real(name: str, value: Any, low: float, high: float, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RequestError(f"{name} should be a number, not {_shown(value)}", param=name)
    if not low <= value <= high:  # NaN is in no range
        raise RequestError(f"{name} should be from {low:g} to {high:g}, not {_shown(value)}", param=name)


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.40}"
    except ValueError:  # Python refuses to spell integers of thousands of digits
        return "a number of thousands of digits"
