"""Work is counted from a model's sizes and from tokens alone."""

from __future__ import annotations

import pytest

from bloomery.adapt.comparison.work import A_SECOND, PASS, Work, counted, work_elsewhere, work_here
from bloomery.evaluate.sample import Answered
from bloomery.models import ModelConfig


def test_a_token_is_two_operations_for_each_weight():
    """Kaplan et al., arXiv 2001.08361, section 2.1: about 2N forward and 6N in training, N without embeddings."""
    config = ModelConfig(
        model_type="qwen3",
        vocab_size=4096,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=320,
        head_dim=64,
        max_position_embeddings=512,
    )
    weights = 2 * (4 * 128 * 128 + 3 * 128 * 320) + 4096 * 128
    found = work_here(config)
    assert 2 * weights < found.read < 2.4 * weights  # attention over what stood before is the rest
    assert found.learn == 3 * found.read and found.write == found.read + PASS


def test_answers():
    work = Work(read=2.0, write=5.0)
    told = [Answered(sample_id="1", text="", prompt_tokens=3, completion_tokens=1), Answered(sample_id="2", text="")]
    assert work.asked(3, 1) == 11 and work.asked(None, None) == 0
    assert work.answering(told) == 11 + 2 * PASS and Work().answering(told[:1]) == PASS
    assert counted(7.0).operations == 7 and counted(7.0).tokens == 0


def test_an_endpoint_counts_by_its_tokens():
    found = work_elsewhere()
    assert found.asked(1000, 0) == pytest.approx(A_SECOND) == pytest.approx(found.asked(0, 50))
