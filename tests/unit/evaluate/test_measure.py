"""The measuring stage."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.evaluate import MeasureConfig, bits_per_byte, measure, measure_inputs, read_scores
from bloomery.evaluate.baselines import split_texts


def test_scores(made):
    config = MeasureConfig(prompts=("return", "if"), max_new_tokens=5, temperature=0.0)
    artifact = measure(made.model, made.corpus, made.tokens, config=config, workspace=made.workspace)
    scores = read_scores(artifact)
    texts = [text.decode() for text in split_texts(made.corpus, "test")]
    assert scores["split"] == "test"
    assert scores["score"]["bits_per_byte"] == bits_per_byte(made.loaded, texts).bits_per_byte
    assert scores["score"]["text_bytes"] == made.corpus.metrics["text_bytes"]["test"]
    assert len(scores["baselines"]) == 4
    greedy = made.loaded.generate("return", max_new_tokens=5, temperature=0.0)
    assert scores["completions"][0]["text"] == greedy.text
    assert [t["logprob"] for t in scores["completions"][0]["tokens"]] == [round(v, 4) for v in greedy.logprobs]
    assert artifact.parents == (made.model.id, made.corpus.id, made.tokens.id)
    again = measure(made.model, made.corpus, made.tokens, config=config, workspace=made.workspace)
    assert again.id == artifact.id
    assert len(made.workspace.ledger.runs(stage="measure")) == 1


def test_inputs_and_limits():
    base = measure_inputs(MeasureConfig(), "m", "c", "t")
    assert measure_inputs(MeasureConfig(seed=1), "m", "c", "t").key != base.key
    with pytest.raises(ConfigError, match="ngram_order"):
        MeasureConfig(ngram_order=9)
