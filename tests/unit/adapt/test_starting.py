"""Start: what is trained, what is written, the base behind adapters, splits by prompt."""

from __future__ import annotations

import pytest
import torch

from bloomery.adapt.starting import Start, as_begun, split
from bloomery.adapt.tuning.lora_config import LoraConfig
from bloomery.core.errors import ConfigError
from bloomery.training.fit import FitConfig


def test_adapters_can_be_switched_off_and_the_base_comes_out_exactly(make_model):
    start = Start.of(make_model(), LoraConfig(r=2), seed=3)
    plain = Start.of(make_model()).decoder
    with torch.no_grad():
        for name, parameter in start.decoder.named_parameters():
            if name.endswith("lora_B"):
                parameter.fill_(0.1)
        ids = torch.arange(5, 15)[None]
        changed, expected = start.decoder(ids), plain(ids)
        with as_begun(start.decoder):
            assert torch.equal(start.decoder(ids), expected)
        assert torch.equal(start.decoder(ids), changed) and not torch.allclose(changed, expected)


def test_only_adapters_are_trained_and_their_initial_values_come_from_the_seed(make_model):
    one, two = (Start.of(make_model(), LoraConfig(r=2), seed=5).decoder for _ in range(2))
    trained = {n: p for n, p in one.named_parameters() if p.requires_grad}
    assert trained and all("lora" in name for name in trained)
    assert all(torch.equal(p, dict(two.named_parameters())[n]) for n, p in trained.items())


def test_adapters_of_the_output_head_are_refused(make_model):
    with pytest.raises(ConfigError, match="output head"):
        Start.of(make_model(), LoraConfig(target_modules=("lm_head",)))


def test_the_usual_rate_follows_the_width_and_what_is_trained(make_model):
    full, lora = Start.of(make_model()), Start.of(make_model(), LoraConfig(r=2))
    assert full.rated(FitConfig()).learning_rate == pytest.approx(5e-5 * (2048 / 16) ** 0.75)
    # Adapters bear ten times as much at width 2048, and follow the root of the width.
    assert lora.rated(FitConfig(), 0.1).learning_rate == pytest.approx(5e-5 * (2048 / 16) ** 0.5)
    assert lora.rated(FitConfig(learning_rate=1.0)).learning_rate == 1.0


def test_examples_of_one_prompt_stay_together():
    prompts = [number % 10 for number in range(50)]
    held, kept = split(prompts, 0.3, 1)
    assert sorted([*held, *kept]) == list(range(50)) and len(held) == 15
    assert not {prompts[n] for n in held} & {prompts[n] for n in kept}
    assert split(["same"] * 5, 0.5, 0) == ([], [0, 1, 2, 3, 4])
