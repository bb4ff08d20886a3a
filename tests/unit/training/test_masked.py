"""The masked loss against transformers' on the same blanks, and what may become one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models.encoder import save_encoder
from bloomery.tokenizer import PackedRows, Tokenizer, TokenizerConfig, TokenShards, tokenize, train_tokenizer
from bloomery.training.building import NetConfig, build
from bloomery.training.corruption import MaskingConfig
from bloomery.training.loader import RowLoader
from bloomery.training.masked import MaskedObjective, blank_at

NET = NetConfig(hidden_size=32, num_hidden_layers=2)


@pytest.fixture(scope="module")
def parts(material):
    config = TokenizerConfig(vocab_size=400, masks=True)
    made = train_tokenizer(material.corpus, config=config, workspace=material.workspace)
    tokens = tokenize(material.corpus, made, workspace=material.workspace)
    return Tokenizer.load(made.path), tokens


def _objective(parts, config: MaskingConfig | None = None, family: str = "modernbert") -> MaskedObjective:
    tokenizer, tokens = parts
    torch.manual_seed(0)
    model = build("masked", NetConfig(hidden_size=32, family=family), tokenizer, context_length=64)
    rows = PackedRows(TokenShards(tokens, "train"), context_length=64, seed=0)
    loader = RowLoader(rows, TokenShards(tokens, "validation"))
    return MaskedObjective(model, loader, tokenizer, config or MaskingConfig(), seed=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["modernbert", "bert", "roberta"])
def test_loss_equals_transformers(parts, tmp_path, family):
    from transformers import AutoModelForMaskedLM

    objective = _objective(parts, family=family)
    save_encoder(objective.encoder, tmp_path)
    theirs = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    objective.model.eval()
    batch = objective.next_batch(4)
    arrays = {name: torch.from_numpy(array) for name, array in batch.arrays.items()}
    with torch.no_grad():
        ours = float(objective.loss(arrays)) / batch.weight
        expected = theirs(**arrays).loss.item()
    # Both average float32 cross-entropies of the same logits (within 1e-4) over the same blanks.
    assert ours == pytest.approx(expected, abs=1e-4)


def test_special_tokens_and_padding_are_no_blanks(parts):
    objective = _objective(parts)
    *_, last = objective.held_out()
    mask = last.arrays["attention_mask"].astype(bool)
    assert not mask.all()
    blanks = last.arrays["labels"] != -100
    assert not (blanks & ~mask).any()
    special = list(parts[0].special_ids)
    assert not np.isin(last.arrays["labels"][blanks], special).any()
    assert (last.arrays["input_ids"][blanks] == parts[0].mask_id).all()
    again = list(objective.held_out())[-1]
    assert np.array_equal(again.arrays["labels"], last.arrays["labels"])


def test_pseudo_log_likelihood_is_one_blank_at_a_time(parts):
    objective = _objective(parts)
    ids = torch.tensor([0, 300, 301, 302, 303])
    found = blank_at(objective.encoder.eval(), ids, 3)
    for place in range(5):
        row = ids.clone()
        row[place] = 3
        with torch.no_grad():
            expected = -objective.encoder(row[None])[0, place].log_softmax(-1)[ids[place]]
        assert found[place].item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_tokenizer_without_a_mask_token(material, parts):
    tokenizer = Tokenizer.load(material.tokenizer.path)
    model = build("masked", NET, tokenizer, context_length=64)
    rows = PackedRows(TokenShards(material.tokens, "train"), context_length=64, seed=0)
    with pytest.raises(ConfigError, match="no mask token") as caught:
        MaskedObjective(model, RowLoader(rows, None), tokenizer, MaskingConfig(), seed=0)  # type: ignore[arg-type]
    assert "tokenizer.masks" in caught.value.hint
    headless = build("classes", NET, parts[0], context_length=64)
    with pytest.raises(ConfigError, match='"masked" head'):
        MaskedObjective(headless, RowLoader(rows, None), parts[0], MaskingConfig(), seed=0)  # type: ignore[arg-type]
