"""The stages: an encoder goes in, one that ranks better comes out, and an equal call makes nothing anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.engine import TextEncoder, load
from bloomery.models.encoder import Encoder, save_encoder
from bloomery.models.encoder_config import EncoderConfig
from bloomery.retrieve.chunk import Chunk, Hit
from bloomery.retrieve.learning import EmbedderConfig, Judgements, RerankerConfig, train_embedder, train_reranker
from bloomery.retrieve.learning.mining import MiningConfig

LEFT = ["iron", "ore", "charcoal", "furnace", "bloom", "slag", "hammer", "anvil"]
RIGHT = ["eisen", "erz", "kohle", "ofen", "luppe", "schlacke", "hammerwerk", "amboss"]


def start(path: Path) -> Path:
    """A BERT of random weights that knows the words of both sides."""
    from transformers import BertTokenizerFast  # type: ignore[attr-defined]

    path.mkdir()
    (path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LEFT, *RIGHT]))
    BertTokenizerFast(str(path / "vocab.txt")).save_pretrained(path)
    torch.manual_seed(0)
    config = EncoderConfig(
        model_type="bert",
        vocab_size=5 + 16,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=32,
        type_vocab_size=2,
        attention_bias=True,
        mlp_bias=True,
        pad_token_id=0,
    )
    save_encoder(Encoder(config), path)
    return path


def judged() -> Judgements:
    """Words of one side ask for their translation."""
    names = [f"p{n}" for n in range(8)]
    return Judgements(
        queries={f"q{n}": word for n, word in enumerate(LEFT)},
        passages=dict(zip(names, RIGHT, strict=True)),
        relevant={f"q{n}": frozenset({name}) for n, name in enumerate(names)},
    )


class All:
    name = "all"

    def search(self, query, k=10, filters=None):
        chunks = [
            Chunk(id=f"p{n}", document_id=f"p{n}", text=one, start=0, end=len(one)) for n, one in enumerate(RIGHT)
        ]
        return [Hit(chunk=one, score=1.0) for one in chunks][:k]


def right(model: TextEncoder) -> float:
    found = model.embed(LEFT) @ model.embed(RIGHT).T
    return float((found.argmax(1) == np.arange(8)).mean())


def test_an_embedder_learns(tmp_path):
    usual = EmbedderConfig()
    fit = replace(usual.fit, epochs=0.0, steps=60, batch_rows=8, learning_rate=3e-3, device="cpu")
    config = EmbedderConfig(mining=MiningConfig(count=1, depth=7), fit=fit)
    folder = start(tmp_path / "start")
    made = train_embedder(folder, judged(), All(), validation=judged(), config=config, workspace=tmp_path / "home")
    before, after = load(folder), load(made.path)
    assert isinstance(before, TextEncoder) and isinstance(after, TextEncoder)
    assert right(after) > 0.9 > right(before)
    assert made.kind == "encoder" and made.metrics["validation_recall_in_batch"] > 0.9
    again = train_embedder(folder, judged(), All(), validation=judged(), config=config, workspace=tmp_path / "home")
    assert again.id == made.id


def test_a_reranker_learns(tmp_path):
    usual = RerankerConfig()
    fit = replace(usual.fit, epochs=0.0, steps=500, batch_rows=16, learning_rate=3e-3, device="cpu", validations=0)
    config = RerankerConfig(mining=MiningConfig(count=3, depth=7), fit=fit)
    folder = start(tmp_path / "start")
    made = train_reranker(folder, judged(), All(), validation=judged(), config=config, workspace=tmp_path / "home")
    model = load(made.path)
    assert isinstance(model, TextEncoder) and made.metrics["validation_accuracy"] > 0.9
    right_one, wrong_one = model.value(LEFT[0], RIGHT[0]), model.value(LEFT[0], RIGHT[1])
    assert right_one > wrong_one


def test_only_encoders_are_trained(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text('{"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]}')
    with pytest.raises(ConfigError, match="no encoder"):
        train_embedder(tmp_path / "m", judged(), All(), workspace=tmp_path / "home")
