"""Labels: padding that changes nothing, errors and explained variance by hand, tags where they count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from bloomery.core.errors import ConfigError
from bloomery.models.classifiers import ConvImageClassifier, ConvImageConfig, MeanTextClassifier, MeanTextConfig
from bloomery.models.vision import VisionEncoder
from bloomery.models.vision_config import VisionConfig
from bloomery.training.labels import (
    ClassificationObjective,
    LabelledText,
    RegressionObjective,
    TaggedText,
    TaggingObjective,
    TextReader,
)
from bloomery.training.loader import ExampleLoader
from bloomery.training.objective import Validation
from bloomery.training.pictures import LabelledPicture, PictureReader

CPU = torch.device("cpu")


class Ids(nn.Module):
    """Says the first id of a text as its value, and each id as its tag's logits."""

    def __init__(self, tags: int = 0) -> None:
        super().__init__()
        self.tags, self.bias = tags, nn.Parameter(torch.zeros(1))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        if self.tags:
            return torch.nn.functional.one_hot(input_ids % self.tags, self.tags).float() * 100 + self.bias
        return input_ids[:, :1].float() + self.bias


def test_regression_figures_by_hand():
    texts = [LabelledText([1, 9], 1.0), LabelledText([2], 4.0), LabelledText([3, 9, 9], 3.0)]
    made = RegressionObjective(Ids(), ExampleLoader(texts, texts, rows=2, seed=0), TextReader(0), seed=0)
    found = made.validate(None, CPU, "float32").values
    # Said 1, 2, 3 of 1, 4, 3: the error is 4 / 3, the labels' variance 14 / 9.
    assert found == pytest.approx(
        {"mean_squared_error": 4 / 3, "mean_absolute_error": 2 / 3, "r_squared": 1 - (4 / 3) / (14 / 9)}
    )
    same = [LabelledText([1], 1.0)] * 2
    flat = RegressionObjective(Ids(), ExampleLoader(same, same, rows=2, seed=0), TextReader(0), seed=0)
    assert "r_squared" not in flat.validate(None, CPU, "float32").values


def test_regression_needs_one_output():
    texts = [LabelledText([1], 1.0)] * 2
    net = MeanTextClassifier(MeanTextConfig(vocab_size=9))
    made = RegressionObjective(net, ExampleLoader(texts, texts, rows=2, seed=0), TextReader(0), seed=0)
    with pytest.raises(ConfigError, match="one output"):
        made.validate(None, CPU, "float32")


def test_tags_count_where_they_stand():
    texts = [TaggedText([4, 5, 6], [-100, 1, 1]), TaggedText([7], [0])]
    made = TaggingObjective(Ids(3), ExampleLoader(texts, texts, rows=2, seed=0), TextReader(0), seed=0)
    # Ids say their remainder by three: 5 is 2 (wrong), 6 is 0 (wrong), 7 is 1 (wrong); 4 and padding do not count.
    assert made.validate(None, CPU, "float32").value == 0
    right = [TaggedText([4, 5, 6], [-100, 2, 0]), TaggedText([7], [1])]
    made = TaggingObjective(Ids(3), ExampleLoader(right, right, rows=2, seed=0), TextReader(0), seed=0)
    assert made.validate(None, CPU, "float32").values == pytest.approx({"accuracy": 1, "nats_per_token": 0}, abs=1e-6)
    with pytest.raises(ConfigError, match="as many labels"):
        made.collate([TaggedText([1, 2], [1])], np.random.default_rng(0), training=True)


class Said(nn.Module):
    """Says a text's first id as its class."""

    def __init__(self, classes: int, scale: float) -> None:
        super().__init__()
        self.classes, self.scale = classes, nn.Parameter(torch.full((1,), scale))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(input_ids[:, 0], self.classes).float() * self.scale


def _classified(pairs: list[tuple[int, int]], classes: int, *, scale: float = 1.0) -> Validation:
    texts, net = [LabelledText([said], label) for said, label in pairs], Said(classes, scale)
    made = ClassificationObjective(net, ExampleLoader(texts, texts, rows=7, seed=0), TextReader(0), seed=0)
    return made.validate(None, CPU, "float32")


def test_macro_f1_is_scikit_learn_s():
    """Over several batches, with a class that is never said, one that is not there, and one that is neither."""
    from sklearn.metrics import accuracy_score, f1_score

    rng = np.random.default_rng(0)
    pairs = [(int(rng.choice([0, 1, 3])), int(rng.choice([0, 1, 2], p=[0.8, 0.15, 0.05]))) for _ in range(40)]
    found = _classified(pairs, 5)
    said, labels = zip(*pairs, strict=True)
    assert found.values["macro_f1"] == pytest.approx(f1_score(labels, said, average="macro", zero_division=0))
    assert found.values["accuracy"] == pytest.approx(accuracy_score(labels, said))
    assert set(found.values) == {"accuracy", "nats_per_example", "macro_f1"}


def test_the_best_is_not_the_one_that_never_finds_what_is_rare():
    """One in twenty is rare: who finds them, at the price of more errors and unsure of all, is better than who is sure
    that there is none."""
    never = _classified([(0, 0)] * 38 + [(0, 1)] * 2, 2, scale=9.0)
    finds = _classified([(0, 0)] * 35 + [(1, 0)] * 3 + [(1, 1)] * 2, 2, scale=2.0)
    assert never.values["accuracy"] > finds.values["accuracy"]
    assert never.worth < finds.worth == -finds.values["nats_per_example"]
    assert never.values["macro_f1"] < finds.values["macro_f1"]


def test_batches_of_texts_say_what_is_padding():
    arrays = TextReader(7)([LabelledText([1, 2], 0), LabelledText([3], 0)], np.random.default_rng(0), training=True)
    assert arrays["input_ids"].tolist() == [[1, 2], [3, 7]] and arrays["attention_mask"].tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize("kind", ["convolutions", "vit"])
def test_pictures_are_classified(kind):
    rng = np.random.default_rng(0)
    examples = []
    for number in range(64):  # bright above or bright below
        picture = rng.integers(0, 100, (16, 16, 3), dtype=np.uint8)
        half = slice(0, 8) if number % 2 else slice(8, 16)
        picture[half] += 120
        examples.append(LabelledPicture(picture, number % 2))
    torch.manual_seed(0)
    if kind == "vit":
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        net: nn.Module = VisionEncoder(VisionConfig(**sizes, image_size=16, patch_size=8, head="classes"))
    else:
        net = ConvImageClassifier(ConvImageConfig(num_labels=2, hidden_sizes=(8, 16)))
    made = ClassificationObjective(net, ExampleLoader(examples, examples, rows=16, seed=0), PictureReader(), seed=0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(80):
        batch = made.next_batch(16)
        loss = made.loss({n: torch.from_numpy(a) for n, a in batch.arrays.items()}) / 16
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert made.validate(None, CPU, "float32").values["accuracy"] > 0.9
