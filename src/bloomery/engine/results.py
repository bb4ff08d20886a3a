"""What a generation gives back: results, deltas, timings, log-probabilities.

Plain data, no tensors. This module does not know how it is made nor any wire format.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from bloomery.core.quantity import Quantity

FinishReason = Literal["stop", "length", "cancelled", "deadline"]
"""An end token or stop string; the limit of tokens; whoever asked; the request's own deadline."""


class TokenLogprob(NamedTuple):
    """A token and the natural logarithm of its probability under the model's unmodified distribution."""

    token_id: int
    logprob: float


@dataclass(frozen=True, kw_only=True)
class PromptLogprob:
    """A prompt token's log-probability given the tokens before it, and the most probable alternatives."""

    token_id: int
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Seconds of a request by phase. `decode_seconds` covers every new token but the first, which prefill gives.

    Both count the steps in which the request took part, others in the same step included; `waiting_seconds` went by
    before the first of them. `cached_tokens` of the prompt were known from earlier requests and not read again.
    `drafted_tokens` were guessed, `accepted_tokens` of them were right, `steps` is how many decode steps there were.
    `encode_seconds` went into pictures of the prompt, beside prefill.
    """

    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    prompt_tokens: int = 0
    new_tokens: int = 0
    waiting_seconds: float = 0.0
    cached_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    steps: int = 0
    encode_seconds: float = 0.0

    @property
    def prefill_tokens_per_second(self) -> float | None:
        read = self.prompt_tokens - self.cached_tokens
        return read / self.prefill_seconds if self.prefill_seconds > 0 else None

    @property
    def tokens_per_second(self) -> float | None:
        """New tokens per second of decode; None when there was no decode step."""
        steps = self.new_tokens - 1
        return steps / self.decode_seconds if steps > 0 and self.decode_seconds > 0 else None


class TracedCandidate(NamedTuple):
    """A token that might have been next: natural log-probabilities of the model's distribution, and of what bias,
    penalties, constraint, temperature and filters made of it (None: not to be chosen)."""

    token_id: int
    logprob: float
    chosen_from: float | None


@dataclass(frozen=True, kw_only=True)
class TokenTrace:
    """How one new token came: the likeliest candidates, and the step that it was computed in: its phase ("prefill" or
    "decode"), when it ended after the request came in, how long it took, how many tokens of how many sequences were
    computed in it, and how many positions of this one were in memory. `guessed`: a draft had it right."""

    token_id: int
    candidates: tuple[TracedCandidate, ...]
    phase: str = ""
    at_seconds: float = 0.0
    step_seconds: float = 0.0
    step_tokens: int = 0
    step_sequences: int = 0
    positions: int = 0
    guessed: bool = False


@dataclass(frozen=True, kw_only=True)
class GenerationResult:
    """A finished generation.

    `token_ids` are all new tokens, an end-of-sequence token and the tokens of a stop string included; `text` has
    neither. `logprobs` has one entry per new token; `top_logprobs` the alternatives, most probable first, when
    they were asked for. `prompt_logprobs` has one entry per prompt token, the first None. `energy` is joules.
    """

    text: str
    token_ids: list[int]
    logprobs: list[float]
    finish_reason: FinishReason
    prompt_token_ids: list[int]
    seed: int
    timings: Timings
    top_logprobs: list[tuple[TokenLogprob, ...]] | None = None
    prompt_logprobs: list[PromptLogprob | None] | None = None
    trace: list[TokenTrace] | None = None
    prefill_energy: Quantity = field(default_factory=Quantity.unknown)
    decode_energy: Quantity = field(default_factory=Quantity.unknown)
    encode_energy: Quantity = field(default_factory=lambda: Quantity.exact(0.0, "counter"))

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt_token_ids)

    @property
    def completion_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def mean_logprob(self) -> float:
        """Of the new tokens; minus infinity if there are none."""
        return sum(self.logprobs) / len(self.logprobs) if self.logprobs else float("-inf")

    @property
    def energy(self) -> Quantity:
        """Joules of all phases together."""
        return self.encode_energy + self.prefill_energy + self.decode_energy


@dataclass(frozen=True, kw_only=True)
class Delta:
    """What one step added. `text` may be empty: a character or a possible stop string is not complete yet.

    The first delta carries `prompt_logprobs`, if they were asked for; the last one `finish_reason` and `result`.
    """

    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    top_logprobs: tuple[tuple[TokenLogprob, ...], ...] | None = None
    prompt_logprobs: list[PromptLogprob | None] | None = None
    finish_reason: FinishReason | None = None
    result: GenerationResult | None = None
