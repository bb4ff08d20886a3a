"""More rows for a decoder: means of their parts, the old logits unchanged, folders that transformers loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from bloomery.core.errors import ConfigError
from bloomery.models.pretrained import load_pretrained, save_pretrained
from bloomery.models.vocabulary import extend_vocabulary


def _folder(tmp_path: Path, *, tied: bool) -> Path:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=20, tie_word_embeddings=tied, **sizes)).save_pretrained(tmp_path / "old")
    return tmp_path / "old"


@pytest.mark.parametrize("tied", [True, False])
def test_rows_are_means_and_old_logits_stay(tmp_path: Path, tied: bool):
    old = load_pretrained(_folder(tmp_path, tied=tied))
    ids = torch.tensor([[1, 5, 7, 2]])
    with torch.no_grad():
        before = old(ids)
        embedding = old.model.embed_tokens.weight.clone()
        head = embedding if old.lm_head is None else old.lm_head.weight.clone()
        extend_vocabulary(old, {20: (1, 2), 22: (3, 4, 4)})
        after = old(ids)
    assert old.config.vocab_size == 23 and after.shape == (1, 4, 23)
    torch.testing.assert_close(after[..., :20], before, rtol=1e-5, atol=1e-6)  # one matrix product, of other width
    torch.testing.assert_close(old.model.embed_tokens.weight[20], embedding[[1, 2]].mean(0))
    torch.testing.assert_close(old.model.embed_tokens.weight[22], embedding[[3, 4, 4]].mean(0))
    torch.testing.assert_close(old.model.embed_tokens.weight[21], embedding.mean(0))  # nothing is said of it
    if not tied:
        assert old.lm_head is not None
        torch.testing.assert_close(old.lm_head.weight[20], head[[1, 2]].mean(0))
    save_pretrained(old, tmp_path / "new")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "new")
    assert theirs.config.vocab_size == 23 and theirs.config.tie_word_embeddings is tied
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, after, rtol=1e-4, atol=1e-5)  # float32, two implementations


def test_padding_is_used_first(tmp_path: Path):
    """A model has more rows than its tokenizer ids: the new ids lie in them, and nothing grows."""
    old = load_pretrained(_folder(tmp_path, tied=True), dtype=torch.bfloat16)
    before = old.model.embed_tokens.weight.clone()
    extend_vocabulary(old, {18: (0, 1)})
    after = old.model.embed_tokens.weight
    assert old.config.vocab_size == 20 and after.dtype == torch.bfloat16
    assert torch.equal(after[:18], before[:18]) and torch.equal(after[19], before[19])
    torch.testing.assert_close(after[18], before[:2].float().mean(0).to(torch.bfloat16))


def test_refused(tmp_path: Path):
    old = load_pretrained(_folder(tmp_path, tied=True))
    with pytest.raises(ConfigError, match="beyond the 20 rows"):
        extend_vocabulary(old, {20: (1, 25)})
