"""Extra heads as a stage: they learn, a killed run goes on to the same, and guesses change no text."""

from __future__ import annotations

import pytest
import torch

from bloomery.adapt.heads import HeadsConfig, train_heads
from bloomery.adapt.heads.config import HeadsFitConfig
from bloomery.core.errors import ConfigError
from bloomery.corpus import CurateConfig, curate
from bloomery.engine import EngineConfig, load_language_model
from bloomery.engine.drafts import HeadsDrafter
from bloomery.models.future_heads import KIND, FutureHeads, FutureHeadsConfig

FIT = HeadsFitConfig(steps=40, batch_rows=8, device="cpu", validations=1)
CONFIG = HeadsConfig(heads=2, context_length=32, fit=FIT)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    (folder / "iron.txt").write_text("\n\n".join(f"iron number {n} was there, and iron it is." for n in range(300)))
    config = CurateConfig(sources=(str(folder / "iron.txt"),), cut_characters=150, decontaminate_words=0)
    return curate(config=config, workspace=folder / "home")


def test_heads_learn_and_a_killed_run_comes_to_the_same(make_model, corpus, tmp_path, interrupted):
    def run(home):
        return train_heads(make_model(), corpus, config=CONFIG, workspace=tmp_path / home)

    made = run("a")
    metrics = made.metrics
    assert made.kind == KIND and metrics["heads"] == 2
    size = load_language_model(make_model().path).config.hidden_size
    assert metrics["trained_parameters"] == 2 * 3 * size**2
    first, last = metrics["validation_curve"][0][2], metrics["validation_curve"][-1][2]
    assert last < first
    assert 0 <= metrics["validation_agreement_2"] <= 1 and 0 <= metrics["validation_agreement_1"] <= 1
    interrupted(lambda: run("b"), 9)
    resumed = run("b")
    assert resumed.metrics["resumed"] and resumed.id == made.id
    assert train_heads(make_model(), corpus, config=CONFIG, workspace=tmp_path / "a").id == made.id


@pytest.mark.parametrize("native", ["on", "off"])
@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"temperature": 0.8, "seed": 3}])
def test_guesses_change_no_text(make_model, corpus, tmp_path, native: str, options: dict):
    model = load_language_model(make_model(), device="cpu")
    model.set_engine(EngineConfig(native=native))
    heads = FutureHeads.load(train_heads(make_model(), corpus, config=CONFIG, workspace=tmp_path).path)
    more = {**options, "max_new_tokens": 40, "ignore_eos": True}
    prompts = ["iron number", "iron number 7 was there, and", "and"]
    plain = [model.generate(prompt, **more) for prompt in prompts]
    model.set_draft_heads(heads)
    accepted = 0
    for prompt, before in zip(prompts, plain, strict=True):
        result = model.generate(prompt, **more)
        assert result.token_ids == before.token_ids
        assert result.timings.drafted_tokens > 0
        accepted += result.timings.accepted_tokens
    assert accepted > 0 or options["temperature"]  # what they learnt from repeats
    assert (model.engine.stats().native_steps > 0) == (native == "on")
    model.close()


@pytest.mark.parametrize("native", ["on", "off"])
def test_states_are_those_that_the_last_token_was_drawn_from(make_model, monkeypatch, native: str):
    """PyTorch's own hidden state of the token before the last; a head that adds nothing guesses the last one again."""
    model = load_language_model(make_model(), device="cpu")
    model.set_engine(EngineConfig(native=native))
    config = FutureHeadsConfig(heads=1, hidden_size=model.config.hidden_size, vocab_size=model.config.vocab_size)
    seen, guesses = list[tuple[int, torch.Tensor]](), list[tuple[int, int]]()
    state, guess = HeadsDrafter._state, HeadsDrafter.guess

    def seen_state(sequence):
        found = state(sequence)
        if found is not None:
            seen.append((len(sequence.ids) - 2, found.clone()))
        return found

    def seen_guess(self, sequence, most):
        made = guess(self, sequence, most)
        guesses.extend((sequence.ids[-1], one) for one in made)
        return made

    monkeypatch.setattr(HeadsDrafter, "_state", staticmethod(seen_state))
    monkeypatch.setattr(HeadsDrafter, "guess", seen_guess)
    model.set_draft_heads(FutureHeads(config))  # untrained: what it adds is zero
    result = model.generate("iron number", max_new_tokens=6, temperature=0.0, ignore_eos=True)
    ids = [*model.tokenizer.encode("iron number"), *result.token_ids]
    with torch.no_grad():
        states = model.decoder.hidden_states(torch.tensor([ids]))[0]
    assert seen and guesses
    for place, found in seen:
        assert torch.allclose(found[0], states[place], atol=1e-4)
    assert all(last == guessed for last, guessed in guesses)
    model.close()


def test_heads_of_a_model_in_bfloat16_guess(make_model):
    model = load_language_model(make_model(), device="cpu", dtype="bfloat16")
    options = {"max_new_tokens": 12, "temperature": 0.0, "ignore_eos": True}
    before = model.generate("iron number", **options)
    config = FutureHeadsConfig(heads=2, hidden_size=model.config.hidden_size, vocab_size=model.config.vocab_size)
    model.set_draft_heads(FutureHeads(config))
    after = model.generate("iron number", **options)
    assert after.timings.drafted_tokens > 0 and len(after.token_ids) == len(before.token_ids)
    model.close()


def test_heads_of_another_size_are_refused(make_model, corpus, tmp_path):
    model = load_language_model(make_model(), device="cpu")
    with pytest.raises(ConfigError, match="the heads are of a model 8 wide"):
        model.set_draft_heads(FutureHeads(FutureHeadsConfig(heads=1, hidden_size=8, vocab_size=20)))
    model.close()
