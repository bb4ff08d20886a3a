"""A tiny corpus, its tokens and a tiny model."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, curate
from bloomery.engine import LanguageModel, load
from bloomery.tokenizer import TokenizerConfig, tokenize, train_tokenizer
from bloomery.training import PretrainConfig, pretrain


class Made(NamedTuple):
    """What the measuring stage reads."""

    workspace: Workspace
    corpus: Artifact
    tokens: Artifact
    model: Artifact
    loaded: LanguageModel


@pytest.fixture(scope="package")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder: Path = tmp_path_factory.mktemp("evaluate")
    (folder / "texts").mkdir()
    rng = random.Random(2)
    words = ["grüße", "code", "return", "value", "naïve", "日本", "loop", "if", "else", "none"]
    for n in range(60):
        text = " ".join(rng.choice(words) for _ in range(rng.randrange(20, 150)))
        (folder / "texts" / f"{n:02}.txt").write_text(text, encoding="utf-8")
    workspace = Workspace(folder / "home")
    config = CurateConfig(sources=(str(folder / "texts"),), test_fraction=0.2, validation_fraction=0.1)
    corpus = curate(config=config, workspace=workspace)
    tokenizer = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=300), workspace=workspace)
    tokens = tokenize(corpus, tokenizer, workspace=workspace)
    sizes = PretrainConfig(
        steps=6, hidden_size=64, num_hidden_layers=1, context_length=16, batch_rows=4, precision="float32", device="cpu"
    )
    model = pretrain(corpus, tokenizer, tokens=tokens, config=sizes, workspace=workspace)
    return Made(workspace, corpus, tokens, model, load(model.path))
