"""Targets given sources: the loss against transformers', and what the end and the start of a row are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bloomery.core.errors import ConfigError, DataError
from bloomery.models.recurrent import RecurrentConfig, RecurrentSeq2Seq
from bloomery.models.seq2seq import Seq2Seq, save_seq2seq
from bloomery.models.seq2seq_config import Seq2SeqConfig
from bloomery.training.loader import ExampleLoader
from bloomery.training.sequence import SequenceObjective, TextPair

PAIRS = [TextPair([5, 6, 7], [8, 9]), TextPair([5], [6, 7, 8, 9]), TextPair([4, 4], [3])]


def _t5() -> Seq2Seq:
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4}
    torch.manual_seed(0)
    return Seq2Seq(Seq2SeqConfig(vocab_size=20, **sizes, feed_forward_proj="gated-gelu", tie_word_embeddings=False))


def _objective(model, **options) -> SequenceObjective:
    return SequenceObjective(model, ExampleLoader(PAIRS, PAIRS[:1], rows=3, seed=0), seed=0, **options)


def test_loss_equals_transformers(tmp_path):
    from transformers import T5ForConditionalGeneration

    objective = _objective(_t5())
    save_seq2seq(objective.translator, tmp_path)  # type: ignore[arg-type]
    theirs = T5ForConditionalGeneration.from_pretrained(tmp_path).eval()
    batch = objective.collate(PAIRS, np.random.default_rng(0), training=True)
    arrays = {name: torch.from_numpy(array) for name, array in batch.arrays.items()}
    with torch.no_grad():
        ours = float(objective.loss(arrays)) / batch.weight
        expected = theirs(
            input_ids=arrays["source_ids"], attention_mask=arrays["source_mask"], labels=arrays["labels"]
        ).loss.item()
    assert ours == pytest.approx(expected, abs=1e-5)


def test_rows_of_each_kind_of_net():
    batch = _objective(_t5()).collate(PAIRS, np.random.default_rng(0), training=True)
    assert batch.arrays["source_ids"].tolist() == [[5, 6, 7, 1], [5, 1, 0, 0], [4, 4, 1, 0]]
    assert batch.arrays["decoder_input_ids"][0].tolist() == [0, 8, 9, 0, 0]
    assert batch.arrays["labels"][0].tolist() == [8, 9, 1, -100, -100]
    assert batch.weight == 3 + 5 + 2 and batch.items == 10 + 4 + 2 + 3
    net = RecurrentSeq2Seq(RecurrentConfig(source_vocab_size=20, target_vocab_size=20, hidden_size=8, embedding_size=8))
    rows = _objective(net).collate(PAIRS, np.random.default_rng(0), training=True).arrays
    assert rows["source_ids"].tolist() == [[5, 6, 7], [5, 0, 0], [4, 4, 0]]
    assert rows["decoder_input_ids"][0].tolist()[:3] == [1, 8, 9]


def test_label_smoothing_belongs_to_training_alone():
    model = _t5()
    plain, smooth = _objective(model), _objective(model, label_smoothing=0.2)
    arrays = {n: torch.from_numpy(a) for n, a in plain.next_batch(3).arrays.items()}
    with torch.no_grad():
        logits = model(arrays["source_ids"], arrays["decoder_input_ids"], arrays["source_mask"]).log_softmax(-1)
        kept = arrays["labels"] != -100
        uniform = -logits[kept].mean(-1).sum()
        expected = 0.8 * plain.loss(arrays) + 0.2 * uniform
        assert smooth.loss(arrays).item() == pytest.approx(expected.item(), rel=1e-5)
        assert smooth.figures(arrays) == plain.figures(arrays)


def test_mistakes():
    with pytest.raises(ConfigError, match="label_smoothing"):
        _objective(_t5(), label_smoothing=1)
    with pytest.raises(DataError, match="empty source"):
        _objective(_t5()).collate([TextPair([], [1])], np.random.default_rng(0), training=True)
