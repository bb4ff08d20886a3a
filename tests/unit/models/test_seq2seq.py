"""The encoder-decoder: steps equal the whole, padding changes nothing, it learns to reverse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from bloomery.core.errors import DataError, RequestError
from bloomery.models.seq2seq import Seq2Seq, StepCache, load_seq2seq, save_seq2seq
from bloomery.models.seq2seq_config import Seq2SeqConfig

SMALL = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4}


def _model(vocab_size: int = 40) -> Seq2Seq:
    torch.manual_seed(0)
    return Seq2Seq(Seq2SeqConfig(vocab_size=vocab_size, **SMALL))


@torch.inference_mode()
def test_steps_equal_the_whole():
    model = _model().eval()
    source, target = torch.randint(2, 40, (2, 11)), torch.randint(2, 40, (2, 9))
    whole = model(source, target)
    memory, cache = model.remember(model.encode(source)), StepCache()
    parts = [model.decode(part, memory, cache=cache) for part in target.split([3, 1, 4, 1], dim=1)]
    assert cache.length == 9
    assert (torch.cat(parts, dim=1) - whole).abs().max() < 1e-5


@torch.inference_mode()
def test_padding_changes_nothing():
    model = _model().eval()
    source, target = torch.randint(2, 40, (1, 6)), torch.randint(2, 40, (1, 5))
    padded = torch.cat((source, torch.zeros(1, 7, dtype=torch.int64)), dim=1)
    mask = (padded != 0).long()
    assert (model(padded, target, mask) - model(source, target)).abs().max() < 1e-5


def test_dropout_is_of_training_alone_and_keeps_the_mean():
    source, target = torch.randint(2, 40, (4, 11)), torch.randint(2, 40, (4, 9))
    plain = _model()
    torch.manual_seed(0)
    model = Seq2Seq(Seq2SeqConfig(vocab_size=40, dropout_rate=0.1, **SMALL))
    assert torch.equal(model.eval()(source, target), plain.eval()(source, target))
    # Norms have a backward of their own in training, whose forward sums in another order: some last bits differ.
    torch.testing.assert_close(plain.train()(source, target), plain.eval()(source, target), atol=1e-5, rtol=1e-5)
    # With parts that give nothing, what is dropped is the embedding and the last state: two of (1 - p) shares live.
    with torch.no_grad():
        for block in [*model.encoder.layers, *model.decoder.layers]:
            for part in (block.self_attn.o_proj, block.mlp.down_proj, block.cross_attn and block.cross_attn.o_proj):
                if part is not None:
                    part.weight.zero_()
    model.train()
    hidden = torch.stack([model.encode(source) for _ in range(50)])
    lived = (hidden != 0).float().mean()
    assert abs(float(lived) - 0.9 * 0.9) < 0.01  # of 70,400 numbers: six standard errors


def test_it_learns_to_reverse():
    model = _model(14)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)

    def batch(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        source = torch.randint(2, 14, (rows, 6), generator=generator)
        return source, source.flip(1)

    for step in range(1000):
        optimizer.param_groups[0]["lr"] = 4e-3 * (1 - step / 1000)
        source, labels = batch(32)
        inputs = torch.cat((torch.zeros(32, 1, dtype=torch.int64), labels[:, :-1]), dim=1)
        loss = F.cross_entropy(model(source, inputs).flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())
    source, labels = batch(64)
    written = model.eval().greedy(source, max_new_tokens=6)
    right = sum(a == b for row, want in zip(written, labels.tolist(), strict=True) for a, b in zip(row, want))  # noqa: B905
    assert right / labels.numel() > 0.9


def test_mistakes(tmp_path: Path):
    model = _model()
    with pytest.raises(RequestError, match="max_new_tokens"):
        model.greedy(torch.ones(1, 2, dtype=torch.int64), max_new_tokens=0)
    save_seq2seq(model, tmp_path)
    assert load_seq2seq(tmp_path).config == model.config
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 32)
    with pytest.raises(DataError):
        load_seq2seq(tmp_path)
