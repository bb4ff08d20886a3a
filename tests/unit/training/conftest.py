"""Tokens of a tiny corpus, made by the stages themselves."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, curate
from bloomery.tokenizer import TokenizerConfig, tokenize, train_tokenizer
from bloomery.training import PretrainConfig


class Material(NamedTuple):
    """A workspace with what pre-training reads."""

    workspace: Workspace
    corpus: Artifact
    tokenizer: Artifact
    tokens: Artifact
    small: PretrainConfig


@pytest.fixture(scope="package")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    folder = tmp_path_factory.mktemp("training")
    (folder / "texts").mkdir()
    rng = random.Random(1)
    # A language with something to learn: each word decides the three that may follow it.
    words = [f"w{n:02}" for n in range(60)]
    for n in range(100):
        word, text = rng.choice(words), []
        for _ in range(rng.randrange(20, 160)):
            text.append(word)
            word = words[(words.index(word) * 7 + rng.randrange(3)) % len(words)]
        (folder / "texts" / f"{n:03}.txt").write_text(" ".join(text))
    workspace = Workspace(folder / "home")
    config = CurateConfig(sources=(str(folder / "texts"),), validation_fraction=0.1, decontaminate_words=0)
    corpus = curate(config=config, workspace=workspace)
    tokenizer = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=320), workspace=workspace)
    tokens = tokenize(corpus, tokenizer, workspace=workspace)
    small = PretrainConfig(
        steps=12,
        hidden_size=64,
        num_hidden_layers=1,
        context_length=32,
        batch_rows=4,
        precision="float32",
        device="cpu",
        validations=2,
    )
    return Material(workspace, corpus, tokenizer, tokens, small)
