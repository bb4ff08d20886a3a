"""A tiny model with a tokenizer, as an artifact: what adaptations of every kind begin with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bloomery.core.artifact import Artifact
from bloomery.engine.exchange import import_model
from bloomery.models import Decoder, ModelConfig
from bloomery.models.pretrained import save_pretrained
from bloomery.tokenizer import Tokenizer, TokenizerConfig
from bloomery.tokenizer.train import learn, write_tokenizer

TEXT = [
    "Once upon a time there was a small furnace that smelted iron. Anyone could build one.",
    "user\nassistant\nWhat is 2 + 2? It is 4, and not 5. Say yes or no. Spell it.",
] * 4


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Artifact]:
    """Makes a model of random weights; the same arguments give the same artifact."""
    root = tmp_path_factory.mktemp("adapt-models")

    def make(seed: int = 0, *, context: int = 64, hidden: int = 16) -> Artifact:
        folder = root / f"tiny-{seed}-{context}-{hidden}"
        if not folder.is_dir():
            folder.mkdir()
            write_tokenizer(learn(TEXT, TokenizerConfig(vocab_size=300)), folder)
        tokenizer = Tokenizer.load(folder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = ModelConfig(
                model_type="qwen3",
                vocab_size=tokenizer.vocab_size,
                hidden_size=hidden,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=2,
                intermediate_size=32,
                head_dim=8,
                max_position_embeddings=context,
                tie_word_embeddings=True,
                initializer_range=0.2,
                bos_token_id=tokenizer.bos_id,
                eos_token_id=tokenizer.eos_ids,
            )
            save_pretrained(Decoder(config), folder)
        return import_model(folder, workspace=root / "home")

    return make


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`interrupted(work, after)`: calls `work`, which a signal stops after so many steps, when a checkpoint is
    written."""
    from bloomery.training.loop import Loop

    def run(work: Callable[[], object], after: int) -> None:
        step = Loop._step

        def stopped(self: Loop) -> None:
            step(self)
            if self.progress.step == after:
                self._interrupted.set()

        with monkeypatch.context() as patch:
            patch.setattr(Loop, "_step", stopped)
            with pytest.raises(KeyboardInterrupt):
                work()

    return run


def write_rows(path: Path, rows: list[dict]) -> Path:
    """As JSON lines."""
    import json

    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def rows_file(tmp_path: Path) -> Callable[[list[dict]], Path]:
    """Writes rows into a file."""
    return lambda rows: write_rows(tmp_path / "rows.jsonl", rows)
