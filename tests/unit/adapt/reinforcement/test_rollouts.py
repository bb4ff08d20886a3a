"""Rollouts: drawn from the weights as they are now, repeatable, with the trainer's own log-probabilities."""

from __future__ import annotations

import pytest
import torch

from bloomery.adapt.reinforcement.rollouts import Drawer
from bloomery.adapt.starting import Start
from bloomery.adapt.tuning.lora_config import LoraConfig

PROMPTS = [(5, 6, 7), (5, 6, 8, 9)]


@pytest.mark.parametrize("lora", [None, LoraConfig(r=2)])
def test_changed_weights_are_drawn_from_at_once(make_model, lora):
    start = Start.of(make_model(), lora, seed=1)
    drawer = Drawer(start.decoder, start.tokenizer, max_new_tokens=7, cache_tokens=512)
    start.decoder.train()

    def check() -> list:
        drawn = drawer.draw(PROMPTS, 3, temperature=1.0, seed=11)
        assert [one.place for one in drawn] == [0, 0, 0, 1, 1, 1]
        assert len({one.completion for one in drawn}) > 1
        for one in drawn:
            assert one.prompt == PROMPTS[one.place]
            ids = torch.tensor([[*one.prompt, *one.completion]])
            with torch.no_grad():
                said = start.decoder(ids[:, :-1]).log_softmax(-1).gather(2, ids[:, 1:, None])[0, :, 0]
            assert said[len(one.prompt) - 1 :].tolist() == pytest.approx(one.logprobs, abs=1e-4)
        return drawn

    first = check()
    assert check() == first and start.decoder.training
    with torch.no_grad():
        for parameter in start.decoder.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    assert check() != first
    drawer.close()


def test_an_answer_that_ends_says_so(make_model):
    start = Start.of(make_model())
    drawer = Drawer(start.decoder, start.tokenizer, max_new_tokens=40, cache_tokens=2048)
    drawn = drawer.draw(PROMPTS, 8, temperature=1.5, seed=0)
    for one in drawn:
        assert one.ended == (one.completion[-1] in start.tokenizer.eos_ids) and one.ended == (len(one.completion) < 40)
    drawer.close()
