"""Which ranks a stage has; what several processes do is in tests/integration/test_ranks.py."""

from __future__ import annotations

import pytest
from torch import nn

from bloomery.core.errors import ConfigError
from bloomery.training import ParallelConfig, pretrain
from bloomery.training.parallel.ranks import ALONE
from bloomery.training.parallel.several import recompute, several


def test_without_a_world_a_process_is_alone():
    assert several(None, ParallelConfig(), device="cpu", seed=0) is ALONE


def test_layers_computed_again_give_the_same_model(material, tmp_path):
    made = [
        pretrain(
            material.corpus,
            material.tokenizer,
            tokens=material.tokens,
            config=material.small,
            parallel=ParallelConfig(recompute=again),
            workspace=tmp_path / str(again),
        )
        for again in (False, True)
    ]
    assert made[0].id == made[1].id


def test_what_cannot_compute_layers_again():
    with pytest.raises(ConfigError, match="cannot compute its layers again"):
        recompute(nn.Linear(2, 2))
