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
MAX_TRACED = 100
MAX_BIASED_TOKENS = 4_096
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
    typical_p: float | None = None
    """Keep the tokens whose surprise is nearest to the expected one until their probabilities reach this sum (Meister
    et al. 2022)."""
    repetition_penalty: float = 1.0
    """Divides positive and multiplies negative logits of tokens in the prompt or the new text (Keskar et al. 2019)."""
    presence_penalty: float = 0.0
    """Is taken off the logits of tokens that are in the new text."""
    frequency_penalty: float = 0.0
    """Is taken off the logits of new tokens for each time that they were taken."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Is added to the logits of these token ids; -100 all but bans a token, 100 all but forces it."""
    seed: int | None = None
    """Seed of the request's own generator; None draws a fresh one."""
    stop: tuple[str, ...] = ()
    """Strings that end the generation; the string itself is not returned."""
    logprobs: int | None = None
    """How many alternatives to return for each new token; the token's own log-probability is always returned."""
    prompt_logprobs: int | None = None
    """How many alternatives to return for each prompt token; None computes nothing for the prompt."""
    trace: int | None = None
    """How many candidates to tell for each new token, before and after the filters, with the step that it came in."""
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
        _real("typical_p", self.typical_p, 0.0, 1.0, optional=True)
        _real("repetition_penalty", self.repetition_penalty, 0.01, 100.0)
        _real("presence_penalty", self.presence_penalty, -100.0, 100.0)
        _real("frequency_penalty", self.frequency_penalty, -100.0, 100.0)
        object.__setattr__(self, "logit_bias", _biases(self.logit_bias))
        _whole("seed", self.seed, -(2**63), 2**64 - 1, optional=True)
        _whole("logprobs", self.logprobs, 0, MAX_TOP_LOGPROBS, optional=True)
        _whole("prompt_logprobs", self.prompt_logprobs, 0, MAX_TOP_LOGPROBS, optional=True)
        _whole("trace", self.trace, 1, MAX_TRACED, optional=True)
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


def _biases(given: Any) -> dict[int, float]:
    """Token ids may be spelt as text, as in JSON."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise RequestError("logit_bias should map token ids to numbers", param="logit_bias")
    if len(given) > MAX_BIASED_TOKENS:
        raise RequestError(f"{len(given):,} biases are more than {MAX_BIASED_TOKENS:,}", param="logit_bias")
    found: dict[int, float] = {}
    for token, bias in given.items():
        spelt = isinstance(token, str) and token.isascii() and token.isdecimal() and len(token) < 12
        number: Any = int(token) if spelt else token
        _whole("logit_bias", number, 0, _MAX_NEW_TOKENS)
        _real("logit_bias", bias, -100.0, 100.0)
        found[number] = float(bias)
    return found


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
