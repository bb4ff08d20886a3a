"""T5, T5 v1.1 and mT5 against transformers: random weights both ways, logits within 1e-4, greedy ids equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.models.seq2seq import Seq2Seq, load_seq2seq, save_seq2seq

BASE: dict[str, Any] = {
    "vocab_size": 131,
    "d_model": 48,
    "d_kv": 16,
    "d_ff": 96,
    "num_layers": 3,
    "num_heads": 4,
    "decoder_start_token_id": 0,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
}
V11 = {**BASE, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "t5": ("t5", BASE),
    "fewer decoder layers": ("t5", {**BASE, "num_decoder_layers": 2, "d_kv": 8}),
    "published buckets": ("t5", {**BASE, "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128}),
    "v1.1": ("t5", V11),
    "v1.1, one layer, eps": ("t5", {**V11, "num_layers": 1, "layer_norm_epsilon": 1e-3, "num_heads": 6}),
    "gated silu": ("t5", {**V11, "feed_forward_proj": "gated-silu"}),
    "mt5": ("mt5", V11),
}


def _reference(shape: str) -> Any:
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    family, values = SHAPES[shape]
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(family, **values), attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.2 if parameter.ndim == 1 else 0.1))
    return model.eval()


def _batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 131, (3, 33), generator=generator)
    mask = torch.ones_like(ids)
    for row, end in ((1, 20), (2, 4)):
        mask[row, end:] = ids[row, end:] = 0
    target = torch.randint(3, 131, (3, 27), generator=generator)
    target[:, 0] = 0
    return ids, mask, target


@torch.inference_mode()
def _compare(ours: Seq2Seq, theirs: Any) -> None:
    ids, mask, target = _batch()
    out = theirs(input_ids=ids, attention_mask=mask, decoder_input_ids=target)
    real = mask.bool()
    hidden = ours.encode(ids, mask)
    assert (hidden[real] - out.encoder_last_hidden_state[real]).abs().max() < 1e-4
    # Logits of a scaled head are about one, of one that is not about E^1/2: so is what rounding makes of them.
    assert ((ours(ids, target, mask) - out.logits).abs().max() / out.logits.abs().mean().clamp_min(1.0)) < 1e-4
    text = theirs.generate(input_ids=ids, attention_mask=mask, max_new_tokens=20, do_sample=False)
    for row, got in zip(text.tolist(), ours.greedy(ids, mask, max_new_tokens=20), strict=True):
        expected = row[1:]
        expected = expected[: expected.index(1)] if 1 in expected else expected
        assert got == expected


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.replace(" ", "-"))
def test_both_ways(shape: str, tmp_path: Path):
    from transformers import AutoModelForSeq2SeqLM

    theirs = _reference(shape)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_seq2seq(tmp_path / "theirs")
    _compare(ours, theirs)
    save_seq2seq(ours, tmp_path / "ours")
    assert load_seq2seq(tmp_path / "ours").config == ours.config
    back, told = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    _compare(ours, back.eval())


def test_an_untied_head(tmp_path: Path):
    """As T5 v1.1 was published: a head of its own in the file, and tie_word_embeddings false."""
    import json

    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForSeq2SeqLM

    _reference("v1.1").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = torch.randn(131, 48, generator=torch.Generator().manual_seed(3))
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("scale_decoder_outputs", None)
    (tmp_path / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    ours = load_seq2seq(tmp_path)
    assert ours.lm_head is not None
    _compare(ours, AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval())
