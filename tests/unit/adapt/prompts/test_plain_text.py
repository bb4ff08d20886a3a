"""A model without a chat template is asked by one text."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from bloomery.adapt.prompts.plain_text import PlainTextChat
from bloomery.adapt.prompts.strategies import StrategyConfig, open_strategy
from bloomery.adapt.prompts.template import read_prompt
from bloomery.core.messages import ChatOptions
from bloomery.engine import load
from bloomery.evaluate.sample import Sample

make_tiny_model = runpy.run_path(str(Path(__file__).parents[3] / "tiny_model.py"))["make_tiny_model"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    loaded = load(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny", context=1024), device="cpu")
    yield loaded
    loaded.close()


def test_it_continues_as_the_model_does(model):
    said = PlainTextChat(model).answer(
        [{"role": "user", "content": "Once upon"}], ChatOptions(max_new_tokens=5, temperature=0.0)
    )
    wanted = model.generate("Once upon", max_new_tokens=5, temperature=0.0)
    assert said.text == wanted.text and said.usage.prompt_tokens == wanted.prompt_tokens


def test_a_strategy_with_choices(model):
    arm = open_strategy(read_prompt("classify"), PlainTextChat(model), StrategyConfig(plain=True))
    found = arm.answer(Sample(id="1", input="a fine film", choices=("good", "bad")))
    assert found.text in ("good", "bad") and found.completion_tokens
    assert found.calls[0].messages[0]["content"].endswith("Text: a fine film\nAnswer:")
