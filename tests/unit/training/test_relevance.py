"""The loss of a cross-encoder against transformers on the same weights and pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models.encoder import Encoder, save_encoder
from bloomery.models.encoder_config import EncoderConfig
from bloomery.training.loader import ExampleLoader
from bloomery.training.relevance import LabelledPair, RelevanceObjective


def encoder(**options) -> Encoder:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    given = {"head": "sequence", "num_labels": 1, **options}
    config = EncoderConfig(
        model_type="bert",
        vocab_size=40,
        max_position_embeddings=32,
        type_vocab_size=2,
        attention_bias=True,
        mlp_bias=True,
        initializer_range=0.2,
        pad_token_id=0,
        **sizes,
        **given,
    )
    return Encoder(config).eval()


def pairs(count: int = 8) -> list[LabelledPair]:
    rng = np.random.default_rng(0)
    made = []
    for n in range(count):
        query, passage = rng.integers(5, 40, 2 + n % 3).tolist(), rng.integers(5, 40, 3 + n).tolist()
        ids = [2, *query, 3, *passage, 3]
        types = [0] * (len(query) + 2) + [1] * (len(passage) + 1)
        made.append(LabelledPair(input_ids=ids, token_type_ids=types, label=float(n % 2)))
    return made


def test_loss_equals_transformers(tmp_path):
    from transformers import BertForSequenceClassification

    examples = pairs()
    made = RelevanceObjective(encoder(), ExampleLoader(examples, examples, rows=4, seed=0), seed=0)
    save_encoder(made.encoder, tmp_path)
    theirs = BertForSequenceClassification.from_pretrained(tmp_path).eval()
    given = {
        name: torch.from_numpy(array)
        for name, array in made.collate(examples, np.random.default_rng(0), training=True).arrays.items()
    }
    labels = given["labels"]
    with torch.no_grad():
        logits = theirs(**{name: array for name, array in given.items() if name != "labels"}).logits[:, 0]
        wanted = torch.nn.BCEWithLogitsLoss(reduction="sum")(logits, labels)
        assert float(made.loss(given)) == pytest.approx(float(wanted), abs=1e-5)
        figures = made.figures(given)
    assert figures["accuracy"] == int(((logits > 0) == (labels > 0.5)).sum())


def test_a_head_of_one_output_is_needed():
    loader = ExampleLoader(pairs(), [], rows=4, seed=0)
    for head in ({"num_labels": 2}, {"head": "none"}):
        with pytest.raises(ConfigError, match="one output"):
            RelevanceObjective(encoder(**head), loader, seed=0)
