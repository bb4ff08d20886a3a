"""extend_model: a model of transformers with a domain's words, loaded by transformers again, as an artifact."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bloomery.core.errors import ConfigError
from bloomery.corpus import CurateConfig, curate
from bloomery.tokenizer.extend import ExtendConfig
from bloomery.training.extension import extend_model

make_tiny_model = runpy.run_path(str(Path(__file__).parents[2] / "tiny_model.py"))["make_tiny_model"]


@pytest.fixture
def corpus(workspace, tmp_path: Path):
    (tmp_path / "texts").mkdir()
    for n in range(60):
        text = f"Bloomery number {n}: spectrophotometers measured deoxyribonucleotides {n * 7} times.\n" * 3
        (tmp_path / "texts" / f"{n}.txt").write_text(text)
    config = CurateConfig(decontaminate_words=0, validation_fraction=0.2, test_fraction=0.0)
    return curate([str(tmp_path / "texts")], config=config, workspace=workspace)


def test_a_model_with_new_words(workspace, corpus, tmp_path: Path):
    old = make_tiny_model(tmp_path / "old")
    made = extend_model(old, corpus, config=ExtendConfig(tokens=40, min_frequency=5), workspace=workspace)
    metrics = made.metrics
    assert made.kind == "model" and made.parents == (corpus.id,) and 0 < metrics["added"] <= 40
    assert metrics["rows"]["after"] == metrics["vocab_size"] == metrics["rows"]["before"] + metrics["added"]
    assert metrics["bytes_per_token"]["after"] > 1.2 * metrics["bytes_per_token"]["before"]
    before, after = (AutoModelForCausalLM.from_pretrained(path) for path in (old, made.path))
    tokenizer, longer = (AutoTokenizer.from_pretrained(path) for path in (old, made.path))
    assert after.config.vocab_size == len(longer)
    rows, grown = before.get_input_embeddings().weight, after.get_input_embeddings().weight
    assert torch.equal(grown[: len(rows)], rows)
    word = longer(" deoxyribonucleotides", add_special_tokens=False).input_ids
    new = next(index for index in word if index >= len(rows))
    parts = tokenizer(longer.decode([new]), add_special_tokens=False).input_ids
    torch.testing.assert_close(grown[new], rows[parts].mean(0))
    ids = torch.tensor([tokenizer("Once upon a time").input_ids])
    with torch.no_grad():
        torch.testing.assert_close(after(ids).logits[..., : len(rows)], before(ids).logits)
    assert extend_model(old, corpus, config=ExtendConfig(tokens=40, min_frequency=5), workspace=workspace).id == made.id
    # What was extended is a model like any other, with its artifact among the parents.
    again = extend_model(made, corpus, config=ExtendConfig(tokens=3, min_frequency=5), workspace=workspace)
    assert again.parents == (made.id, corpus.id) and again.metrics["vocab_size"] == metrics["vocab_size"] + 3


def test_only_decoders(workspace, corpus, tmp_path: Path):
    from transformers import BertConfig, BertForMaskedLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertForMaskedLM(BertConfig(vocab_size=300, **sizes)).save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match="no decoder"):
        extend_model(tmp_path / "bert", corpus, workspace=workspace)
