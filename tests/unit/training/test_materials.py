"""Which objective is made of which material."""

from __future__ import annotations

import pytest

from bloomery.tokenizer import Tokenizer, TokenShards
from bloomery.training.building import NetConfig, build
from bloomery.training.causal import CausalObjective
from bloomery.training.fit import FitConfig
from bloomery.training.labels import ClassificationObjective, LabelledText, RegressionObjective
from bloomery.training.materials import Materials, objective_for
from bloomery.training.train_config import TrainConfig

NET = NetConfig(hidden_size=32, num_hidden_layers=1)


def test_rows_of_tokens(material):
    tokenizer = Tokenizer.load(material.tokenizer.path)
    config = TrainConfig(objective="causal", context_length=32, net=NET, fit=FitConfig(batch_rows=4))
    made = Materials.of(config, material.corpus, material.tokens, tokenizer)
    assert isinstance(made.train, TokenShards) and made.steps_an_epoch(4) == 0
    model = build("causal", NET, tokenizer, context_length=32)
    objective = objective_for(config, model, made)
    assert isinstance(objective, CausalObjective) and objective.next_batch(4).rows == 4


@pytest.mark.parametrize(("objective", "kind"), [("classes", ClassificationObjective), ("values", RegressionObjective)])
def test_examples(material, objective, kind):
    tokenizer = Tokenizer.load(material.tokenizer.path)
    texts = [LabelledText([1, 2, 3], n % 2) for n in range(20)]
    made = Materials(tokenizer=tokenizer, train_examples=texts, validation_examples=texts[:3], labels=("a", "b"))
    config = TrainConfig(objective=objective, context_length=32, net=NET, fit=FitConfig(batch_rows=8))
    found = objective_for(config, build(objective, NET, tokenizer, context_length=32, num_labels=1), made)
    assert isinstance(found, kind) and made.steps_an_epoch(8) == 2
