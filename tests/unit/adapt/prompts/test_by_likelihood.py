"""The most probable choice, with log-probabilities of PyTorch's own softmax over the model's logits."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from bloomery.adapt.prompts.by_likelihood import ByLikelihood, open_likelihood
from bloomery.adapt.prompts.examples import FixedExamples
from bloomery.adapt.prompts.template import PromptTemplate, read_prompt
from bloomery.core.likelihood import Likelihood
from bloomery.core.messages import Usage
from bloomery.evaluate.sample import Sample

make_tiny_model = runpy.run_path(str(Path(__file__).parents[3] / "tiny_model.py"))["make_tiny_model"]
QUESTION = Sample(id="1", input="a fine film", choices=("good", "very bad"))
TEMPLATE = PromptTemplate(name="t", user="{{ input }}", assistant="It is {{ answer }}")


class Table:
    """A LikelihoodModel that knows a few pairs by heart."""

    name = "table"

    def __init__(self, nats: dict[str, float]) -> None:
        self.nats, self.asked = nats, []

    def likelihoods(self, pairs):
        self.asked += list(pairs)
        for place, pair in reversed(list(enumerate(pairs))):
            usage = Usage(prompt_tokens=3)
            nats = self.nats.get(pair.context + pair.continuation, self.nats.get(pair.continuation, 0.0))
            yield place, Likelihood(nats=nats, tokens=len(pair.continuation.split()), greedy=False, usage=usage)

    def rolling(self, texts):
        raise NotImplementedError


def test_choices_are_compared_as_told():
    nats = {" good": -2.0, " very bad": -3.0}
    answered = {
        length: open_likelihood(TEMPLATE, Table(nats), length=length).answer(QUESTION)
        for length in ("none", "tokens", "bytes")
    }
    assert {length: one.text for length, one in answered.items()} == {
        "none": "good",
        "tokens": "very bad",  # -1.5 a token
        "bytes": "very bad",  # -3 / 9 beside -2 / 5
    }
    assert answered["none"].confidence == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert answered["none"].prompt_tokens == 6 and answered["none"].details["nats"] == {"good": -2.0, "very bad": -3.0}


def test_a_prior_is_that_of_an_empty_question():
    model = Table(
        {"a fine film\nIt is good": -2.0, "a fine film\nIt is very bad": -3.0, " good": -1.0, " very bad": -5.0}
    )
    found = open_likelihood(TEMPLATE, model, length="prior").answer(QUESTION)
    assert found.text == "very bad"  # raised by 2 nats, the other lowered by 1
    assert [pair.context for pair in model.asked] == ["a fine film\nIt is"] * 2 + ["It is"] * 2


def test_an_engine_of_our_own(tmp_path):
    import torch

    from bloomery.engine import load
    from bloomery.engine.likelihoods import EngineLikelihoods

    model = load(make_tiny_model(tmp_path / "tiny", context=1024), device="cpu")
    arm = ByLikelihood(read_prompt("classify"), EngineLikelihoods(model), FixedExamples(()))
    found = arm.answer(QUESTION)
    context, encode = arm.asked(QUESTION)[0]["content"], model.tokenizer.encode
    for choice, nats in found.details["nats"].items():
        start, whole = (encode(text, add_bos=True) for text in (context, f"{context} {choice}"))
        rows = torch.as_tensor(model.logits([whole]))[0].log_softmax(-1)
        wanted = sum(float(rows[place - 1, whole[place]]) for place in range(len(start), len(whole)))
        assert nats == pytest.approx(wanted, abs=1e-4)
    assert found.text == max(found.details["nats"], key=found.details["nats"].get)
    model.close()


def test_without_choices_there_is_nothing_to_compare():
    found = open_likelihood(TEMPLATE, Table({})).answer(Sample(id="1", input="?"))
    assert found.text == "" and "choices" in found.error
