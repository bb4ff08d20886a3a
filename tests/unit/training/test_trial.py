"""Steps that are taken back leave nothing: weights, data position, random numbers."""

from __future__ import annotations

import torch

from bloomery.models.classifiers import MeanTextClassifier, MeanTextConfig
from bloomery.training.labels import ClassificationObjective, LabelledText, TextReader
from bloomery.training.loader import ExampleLoader
from bloomery.training.trial import taken_back


def test_everything_is_as_before():
    torch.manual_seed(0)
    texts = [LabelledText([i % 5 + 1], i % 2) for i in range(32)]
    net = MeanTextClassifier(MeanTextConfig(vocab_size=20))
    objective = ClassificationObjective(net, ExampleLoader(texts, [], rows=8, seed=0), TextReader(0), seed=0)
    frozen = next(net.parameters())
    frozen.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    place, random = objective.state_dict(), torch.get_rng_state()
    with taken_back(objective, torch.device("cpu")):
        for _ in range(3):
            objective.next_batch(8)
        torch.rand(5)
        with torch.no_grad():
            for value in net.parameters():
                if value.requires_grad:
                    value.add_(1.0)
                    value.grad = torch.ones_like(value)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert objective.state_dict() == place and torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None for p in net.parameters())
