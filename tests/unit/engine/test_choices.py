"""Choices: greedy and guessed tokens, and errors that stay with their sequence."""

from __future__ import annotations

import math

import torch

from bloomery.core.errors import BloomeryError, DataError
from bloomery.engine import LanguageModel
from bloomery.engine.choices import choose
from bloomery.engine.sampling import Known, LogProbabilities
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


def test_what_a_step_knows_of_a_row_is_used_where_it_holds(tiny: LanguageModel):
    words, padded = tiny.tokenizer.vocab_size, rows(40, size=320 + 64)
    assert words == 320
    padded[0, 350] = 99.0  # no token
    for row, best in ((rows(40), 40), (padded, 350)):
        known = Known(float(row[0].double().logsumexp(0)), best)
        choice = choose(sequence(tiny, []), row, [LogProbabilities(row[0], known)])
        assert choice.tokens == [40]
        exact = torch.log_softmax(row[0].double(), 0)
        torch.testing.assert_close(choice.logprobs[0].all().double(), exact, rtol=1e-7, atol=1e-7)
        assert choice.logprobs[0].of(40) == float(choice.logprobs[0].all()[40])
    nothing = LogProbabilities(rows(40)[0], Known(math.nan, 0))
    assert isinstance(choose(sequence(tiny, []), rows(40), [nothing]).error, DataError)
    likely = LogProbabilities.of_all(torch.log_softmax(rows(40)[0], 0))
    assert choose(sequence(tiny, []), rows(40), [likely]).tokens == [40] and likely.of(40) == float(likely.all()[40])


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
