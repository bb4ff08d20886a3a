"""Choices: what a step chose for each of its sequences, from the logits that the runner gave.

An error that belongs to one sequence (numbers that are none, a constraint that cannot be met) stays with it. This
module does not know the model, nor what becomes of the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from bloomery.core.errors import BloomeryError, DataError
from bloomery.engine.results import TokenTrace
from bloomery.engine.sampling import LogProbabilities
from bloomery.engine.sequence import SequenceState


@dataclass
class Choice:
    """What a step chose for a sequence: tokens, each with the log-probabilities that it was chosen with."""

    sequence: SequenceState
    tokens: list[int] = field(default_factory=list)
    logprobs: list[LogProbabilities] = field(default_factory=list)
    error: BloomeryError | None = None
    traces: list[TokenTrace] = field(default_factory=list)
    taken: int = 0
    """Tokens that the text took, up to its end."""


def choose(one: SequenceState, logits: Tensor, logprobs: Sequence[LogProbabilities]) -> Choice:
    """The next token, and those after it for as long as the guesses are what would have been chosen: a guess changes
    how soon a token comes, never which."""
    choice = Choice(one)
    generation = one.generation
    if not all(row.are_numbers for row in logprobs):
        hint = "the weights are damaged, or overflow in this dtype"
        choice.error = DataError("the model's output is not a number", hint=hint)
    elif generation.max_new_tokens > 0:
        try:
            _draw(choice, logits, logprobs)
        except BloomeryError as error:  # a constraint that cannot be met, for example
            choice.error = error
    return choice


def _draw(choice: Choice, logits: Tensor, logprobs: Sequence[LogProbabilities]) -> None:
    one, generation = choice.sequence, choice.sequence.generation
    sampler = generation.sampler
    for place in range(len(logits)):
        # A vocabulary may be padded for speed: a row that has no token cannot be chosen.
        words = logits[place, : generation.num_words]
        candidates = sampler.trace(words, logprobs[place].all()) if sampler.params.trace else ()
        known = logprobs[place].known
        token = sampler.choose(words, known.best if known and known.best < len(words) else None)
        right = place < len(one.draft) and token == one.draft[place]
        if candidates:
            positions = one.read + 1 + place if one.is_decoding else len(one.ids)
            trace = TokenTrace(token_id=token, candidates=candidates, positions=positions, guessed=right)
            choice.traces.append(trace)
        choice.tokens.append(token)
        choice.logprobs.append(logprobs[place])
        if not right or sampler.finished:
            break
