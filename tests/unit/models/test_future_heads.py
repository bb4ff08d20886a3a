"""Extra heads: what they compute, written out, and their files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bloomery.core.errors import ConfigError, DataError
from bloomery.models.future_heads import CONFIG, WEIGHTS, FutureHeads, FutureHeadsConfig

ODD = [
    '{"heads": 2, "hidden_size": 6, "vocab_size": 11, "more": 1}',
    *(
        f'{{"heads": {heads}, "hidden_size": {hidden}, "vocab_size": {words}}}'
        for heads, hidden, words in (
            (2.0, 6, 11),
            (2, "6.0", 11),
            (9, 6, 11),
            (2, 10**10, 11),
            (2, 6, 0),
            ("true", 6, 11),
        )
    ),
]


def _heads() -> FutureHeads:
    torch.manual_seed(0)
    made = FutureHeads(FutureHeadsConfig(heads=2, hidden_size=6, vocab_size=11, base="ab" * 32))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def test_a_head_is_its_formula():
    head, (state, embedded) = _heads().heads[1], torch.randn(2, 5, 6).double()
    head.double()
    eps = torch.finfo(torch.float64).eps
    both = torch.cat([x / (x.square().mean(-1, keepdim=True) + eps).sqrt() for x in (state, embedded)], -1)
    up = both @ head.up.weight.T
    expected = state + (up / (1 + (-up).exp())) @ head.down.weight.T
    assert torch.allclose(head(state, embedded), expected, rtol=1e-9)


def test_files_there_and_back(tmp_path: Path):
    made = _heads()
    made.save(tmp_path)
    read = FutureHeads.load(tmp_path)
    assert read.config == made.config and not read.training
    assert all(torch.equal(a, b) for a, b in zip(read.state_dict().values(), made.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    "text", ['{"heads": 2}', '{"heads": 2, "hidden_size": 6, "vocab_size": 11, "more": 1}', "[]", *ODD]
)
def test_a_config_that_is_none_is_refused(tmp_path: Path, text: str):
    _heads().save(tmp_path)
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(DataError):
        FutureHeads.load(tmp_path)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path):
    _heads().save(tmp_path)
    for heads, hidden in ((3, 6), (2, 7), (2, 1 << 17)):
        (tmp_path / CONFIG).write_text(f'{{"heads": {heads}, "hidden_size": {hidden}, "vocab_size": 11}}')
        with pytest.raises(DataError, match="does not fit"):
            FutureHeads.load(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"torn")
    with pytest.raises(DataError):
        FutureHeads.load(tmp_path)
    with pytest.raises(ConfigError):
        FutureHeadsConfig(heads=9, hidden_size=6, vocab_size=11)
