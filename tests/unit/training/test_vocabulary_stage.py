"""A corpus of raw text gets a vocabulary that suits the budget; one that has a tokenizer keeps that."""

from __future__ import annotations

import shutil
from dataclasses import replace

from bloomery.core.workspace import Workspace
from bloomery.energy import EnergyConfig
from bloomery.tokenizer import TokenizerConfig, train_tokenizer
from bloomery.training.planning.vocabulary import rounded_vocabulary
from bloomery.training.pretrain_config import request_without_tokens
from bloomery.training.vocabulary_stage import vocabulary_of


def test_raw_text_and_text_with_a_tokenizer(material, tmp_path):
    shutil.copytree(material.corpus.path, tmp_path / "home" / "artifacts" / material.corpus.path.name)
    workspace = Workspace(tmp_path / "home")
    given = (material.corpus, TokenizerConfig(), material.small, None, EnergyConfig(), workspace)
    chosen = vocabulary_of(*given)
    assert chosen == rounded_vocabulary(request_without_tokens(material.small, vocab_size=4096).base)
    (run,) = workspace.ledger.runs(stage="vocabulary")
    assert run["state"] == "finished"
    train_tokenizer(material.corpus, config=TokenizerConfig(vocab_size=300), workspace=workspace)
    assert vocabulary_of(*given) == 300
    # One of another kind is not it.
    other = (given[0], replace(given[1], sentinels=10), *given[2:])
    assert vocabulary_of(*other) == chosen
    workspace.ledger.close()
