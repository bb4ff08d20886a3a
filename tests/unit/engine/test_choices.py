"""Choices: greedy and guessed tokens, and errors that stay with their sequence."""

from __future__ import annotations

import torch

from bloomery.core.errors import BloomeryError, DataError
from bloomery.engine import LanguageModel
from bloomery.engine.choices import choose
from bloomery.engine.sampling import LogProbabilities
from bloomery.engine.sequence import SequenceState


def sequence(tiny: LanguageModel, draft: list[int], **options) -> SequenceState:
    request = tiny.request([5, 6], [{"max_new_tokens": 8, "temperature": 0.0, **options}])
    return SequenceState(request, request.generations[0], [5, 6, 7], read=2, draft=draft)


def rows(*best: int, size: int = 320) -> torch.Tensor:
    logits = torch.zeros(len(best), size)
    for row, token in zip(logits, best, strict=True):
        row[token] = 9.0
    return logits


def test_guesses_are_kept_up_to_the_first_that_is_wrong(tiny: LanguageModel):
    cases = (([], [40], [40]), ([40, 41], [40, 41, 42], [40, 41, 42]), ([40, 9], [40, 41, 42], [40, 41]))
    for draft, best, tokens in cases:
        logits = rows(*best)
        choice = choose(sequence(tiny, draft), logits, list(map(LogProbabilities, logits)))
        assert choice.tokens == tokens and choice.error is None and len(choice.logprobs) == len(tokens)


def test_errors_stay_with_their_sequence(tiny: LanguageModel, monkeypatch):
    broken = rows(40)
    broken[0, 7] = torch.nan
    choice = choose(sequence(tiny, []), broken, list(map(LogProbabilities, broken)))
    assert isinstance(choice.error, DataError) and not choice.tokens
    one = sequence(tiny, [])

    def refuse(logits, best):
        raise BloomeryError("cannot be met")

    monkeypatch.setattr(one.generation.sampler, "choose", refuse)
    choice = choose(one, rows(40), list(map(LogProbabilities, rows(40))))
    assert choice.error is not None and "cannot be met" in str(choice.error)
