"""Drafts: guessed or not, a seed writes the same; what repeats is guessed; frequencies are the model's own."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare

from bloomery.core.errors import ConfigError
from bloomery.engine import LanguageModel, load_language_model
from bloomery.engine.drafts import Drafting, NgramDrafter, Pace
from bloomery.engine.engine import EngineConfig
from bloomery.engine.sequence import SequenceState
from bloomery.models import Decoder

NGRAM = EngineConfig(drafts="ngram")


def test_what_followed_the_last_tokens_is_guessed():
    def guess(ids: list[int], most: int = 8) -> list[int]:
        return NgramDrafter(8).guess(SequenceState(None, None, ids), most)  # type: ignore[arg-type]

    assert guess([1, 2, 3, 4, 5, 1, 2]) == [3, 4, 5, 1]
    assert guess([1, 2, 9, 1, 2, 7, 1, 2], 2) == [7, 1]  # the latest
    assert guess([5, 1, 2, 9, 9, 6, 1, 2, 7, 5, 1, 2]) == [9, 9, 6, 1]  # the longest run
    assert guess([1, 2, 3, 4]) == [] and guess([1]) == [] and guess([7, 7, 7], 3) == [7]
    assert guess([1, 2, 3, 1, 2], 0) == []


def test_a_drafter_that_grows_with_its_text_guesses_like_a_new_one():
    grown, ids = NgramDrafter(4), [1, 2, 3, 1, 2, 4, 2, 3, 1, 2, 3, 1]
    for end in range(1, len(ids) + 1):
        sequence = SequenceState(None, None, ids[:end])  # type: ignore[arg-type]
        assert grown.guess(sequence, 4) == NgramDrafter(4).guess(sequence, 4)


def test_the_pace_follows_what_was_right():
    pace = Pace(8)
    assert pace.next(9) == 4
    pace.learn(4, 4)
    assert pace.next(9) == 8
    pace.learn(8, 1)
    assert pace.next(9) == 4
    for _ in range(3):
        pace.learn(pace.count, 0)
    assert [pace.next(9) for _ in range(9)] == [0] * 8 + [1]


@pytest.mark.parametrize(("cost", "pays"), [(1.0, False), (0.05, True)])
def test_guesses_that_cost_more_than_they_save_are_made_seldom(cost: float, pays: bool):
    """A guess of two tokens costs twice `cost` of a step, and every second time its first one is right."""
    now, length, rounds, guesses = 0.0, 1, 0, 0
    pace = Pace(2, clock=lambda: now)
    while length < 2000:
        asked = min(2, pace.next(length))
        right = int(asked > 0 and guesses % 2)
        guesses += asked > 0
        now += 1.0 + cost * asked
        length += 1 + right
        pace.learn(asked, right)
        rounds += 1
    assert (guesses > 0.8 * rounds) is pays
    # Beside a step for each token: little is lost where guesses do not pay, most of a third won where they do.
    assert now < (0.75 if pays else 1.03) * 2000


def test_guesses_are_made_again_when_steps_take_longer_for_everybody():
    """A stall of one step says nothing; steps that stay thirty times as long do, of both kinds."""
    now, length, guesses, rounds = 0.0, 1, 0, 0
    pace = Pace(2, clock=lambda: now)
    while length < 1600:
        asked = min(2, pace.next(length))
        right = int(asked > 0 and rounds % 2)
        now += (1.0 if length < 800 else 30.0) * (1.0 + 0.05 * asked) * (50.0 if rounds == 90 else 1.0)
        length += 1 + right
        pace.learn(asked, right)
        rounds += 1
        guesses += asked > 0 and length > 900
    assert guesses > 300


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": 0.4}, {"temperature": 1.3, "top_p": 0.9}])
def test_guesses_do_not_change_a_text(tiny: LanguageModel, options: dict):
    guessing = LanguageModel(tiny.decoder, tiny.tokenizer, name="g", engine=NGRAM)
    torch.manual_seed(1)
    small = Decoder(tiny.config)
    asked = LanguageModel(tiny.decoder, tiny.tokenizer, name="m", draft_model=small)
    same = LanguageModel(tiny.decoder, tiny.tokenizer, name="s", draft_model=tiny.decoder)
    for seed in range(4):
        more = {**options, "max_new_tokens": 60, "seed": seed, "ignore_eos": True, "logprobs": 1}
        plain = tiny.generate("Once upon a time", **more)
        for model in (guessing, asked, same):
            result = model.generate("Once upon a time", **more)
            assert result.token_ids == plain.token_ids
            # A batch of rows sums in another order than one row.
            assert result.logprobs == pytest.approx(plain.logprobs, abs=1e-5)
        assert result.timings.accepted_tokens == result.timings.drafted_tokens > 40  # its own guesses are right
        assert result.timings.steps < 20


def test_text_that_repeats_takes_fewer_steps(tiny: LanguageModel):
    guessing = LanguageModel(tiny.decoder, tiny.tokenizer, name="g", engine=NGRAM)
    bias = dict.fromkeys(tiny.tokenizer.encode("ab"), 100.0)
    result = guessing.generate("ab" * 9, max_new_tokens=60, temperature=0.0, logit_bias=bias, ignore_eos=True)
    plain = tiny.generate("ab" * 9, max_new_tokens=60, temperature=0.0, logit_bias=bias, ignore_eos=True)
    assert result.token_ids == plain.token_ids
    assert result.timings.steps < plain.timings.steps / 1.5
    assert result.timings.accepted_tokens > 20


def test_frequencies_with_guesses_are_the_models(tiny: LanguageModel):
    """The token after a guessed one, over many seeds, against its exact distribution."""
    prompt = tiny.tokenizer.encode("aaaaaaaa")
    guessing = LanguageModel(tiny.decoder, tiny.tokenizer, name="g", engine=NGRAM)
    options = {"max_new_tokens": 1, "temperature": 1.0, "top_k": 6, "ignore_eos": True}
    first = {s: guessing.generate(prompt, seed=s, **options).token_ids[0] for s in range(40)}
    start = max(set(first.values()), key=list(first.values()).count)
    samples = [{**options, "max_new_tokens": 2, "seed": s, "logit_bias": {}} for s in range(1500)]
    counts: dict[int, int] = {}
    for begin in range(0, 1500, 50):
        request = guessing.request(prompt, samples[begin : begin + 50])
        for _, delta in guessing.engine.run(request):
            if delta.result is not None and delta.result.token_ids[0] == start:
                second = delta.result.token_ids[1]
                counts[second] = counts.get(second, 0) + 1
    row = tiny.logits([*prompt, start])[0, -1]
    best = torch.topk(row, 6)
    expected = torch.softmax(best.values.double(), -1) * sum(counts.values())
    assert set(counts) <= set(best.indices.tolist())
    found = [counts.get(i, 0) for i in best.indices.tolist()]
    # Seeds are fixed: no lottery; a wrong distribution gives p far below this.
    assert chisquare(found, expected.numpy()).pvalue > 0.001


def test_a_model_guesses_fewer_tokens_than_are_looked_up(tiny: LanguageModel):
    assert (Drafting("ngram").most, Drafting("model", model=tiny.decoder).most, Drafting("ngram", 3).most) == (16, 8, 3)


def test_unknown_ways_to_guess_are_refused():
    with pytest.raises(ConfigError):
        Drafting("magic", 4)
    with pytest.raises(ConfigError):
        Drafting("model", 4)
    with pytest.raises(ConfigError):
        EngineConfig(drafts="magic")


def test_a_draft_model_that_comes_later_guesses_for_adapters_too_and_has_the_same_tokens(
    tiny: LanguageModel, tmp_path: Path
):
    model = LanguageModel(tiny.decoder, tiny.tokenizer, name="m")
    plain = model.generate("Once upon a time", max_new_tokens=40, temperature=0.0, ignore_eos=True)
    model.set_draft_model(tiny)
    result = model.generate("Once upon a time", max_new_tokens=40, temperature=0.0, ignore_eos=True)
    assert result.token_ids == plain.token_ids
    assert result.timings.accepted_tokens > 20 and plain.timings.drafted_tokens == 0
    make_tiny_model = runpy.run_path(str(Path(__file__).parents[2] / "tiny_model.py"))["make_tiny_model"]
    other = load_language_model(make_tiny_model(tmp_path / "other", vocab_size=300), device="cpu")
    with pytest.raises(ConfigError, match="other has other tokens than m"):
        model.set_draft_model(other)
    assert model.generate("Once", max_new_tokens=9, temperature=0.0, ignore_eos=True).timings.accepted_tokens > 0
