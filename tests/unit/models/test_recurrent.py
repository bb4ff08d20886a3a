"""Recurrent nets: published parameter counts, steps equal the whole, padding changes nothing, they learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bloomery.core.errors import ConfigError, DataError, RequestError
from bloomery.models.recurrent import RecurrentConfig, RecurrentSeq2Seq, load_recurrent, save_recurrent

KINDS: dict[str, dict[str, Any]] = {
    "gru": {},
    "lstm": {"cell": "lstm", "num_layers": 2},
    "every step": {"context": "every_step"},
    "additive": {"context": "additive", "bidirectional": True},
    "dot": {"context": "dot"},
    "dot, both ways": {"context": "dot", "bidirectional": True},
}


def _net(kind: str, vocabulary: int = 20) -> RecurrentSeq2Seq:
    torch.manual_seed(0)
    sizes = {"source_vocab_size": vocabulary, "target_vocab_size": vocabulary, "embedding_size": 16, "hidden_size": 32}
    return RecurrentSeq2Seq(RecurrentConfig(**sizes, **KINDS[kind]))


@pytest.mark.parametrize(
    ("options", "published"),
    [
        ({"cell": "lstm", "num_layers": 2, "dropout": 0.5}, 13_898_501),
        ({"context": "every_step", "dropout": 0.5}, 14_219_781),
        ({"context": "additive", "bidirectional": True, "dropout": 0.5}, 20_518_405),
    ],
)
def test_published_parameter_counts(options: dict[str, Any], published: int):
    """The three nets of Trevett's tutorials on Multi30k."""
    with torch.device("meta"):
        net = RecurrentSeq2Seq(RecurrentConfig(source_vocab_size=7_853, target_vocab_size=5_893, **options))
    assert sum(parameter.numel() for parameter in net.parameters()) == published


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_steps_equal_the_whole(kind: str):
    net = _net(kind).eval()
    source, target = torch.randint(3, 20, (3, 7)), torch.randint(3, 20, (3, 5))
    whole, state = net(source, target), net.encode(source)
    for place, tokens in enumerate(target.unbind(1)):
        logits, state, weights = net.step(state, tokens)
        assert (logits - whole[:, place]).abs().max() < 1e-5
        assert (weights is None) == (not net.config.attends)
        if weights is not None:
            torch.testing.assert_close(weights.sum(-1), torch.ones(3))


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_padding_changes_nothing(kind: str):
    net = _net(kind).eval()
    source, target = torch.randint(3, 20, (2, 7)), torch.randint(3, 20, (2, 5))
    source[1, 4:] = 0
    longer = torch.cat((source, torch.zeros(2, 3, dtype=torch.int64)), dim=1)
    alone = net(source[1:, :4], target[1:])
    assert (net(longer, target)[1:] - alone).abs().max() < 1e-5
    assert (net(source, target)[1:] - alone).abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_rows_may_be_reordered(kind: str):
    net = _net(kind).eval()
    source = torch.randint(3, 20, (3, 7))
    rows = torch.tensor([2, 0, 0])
    tokens = torch.tensor([4, 5, 6])
    got = net.step(net.encode(source).select(rows), tokens)[0]
    assert (got - net.step(net.encode(source[rows]), tokens)[0]).abs().max() < 1e-5


@torch.inference_mode()
def test_additive_attention_is_bahdanaus():
    """v tanh(W [s; h]) over the real states, by hand."""
    net = _net("additive")
    assert net.attention is not None and net.attention.joint is not None and net.attention.score is not None
    hidden, states = torch.randn(1, 32), torch.randn(1, 4, 64)
    mask = torch.tensor([[1, 1, 1, 0]])
    scores = [
        float(net.attention.score.weight[0] @ torch.tanh(net.attention.joint(torch.cat((hidden[0], states[0, n])))))
        for n in range(3)
    ]
    expected = torch.tensor([*torch.tensor(scores).softmax(0).tolist(), 0.0])
    torch.testing.assert_close(net.attention(hidden, states, mask)[0], expected)


@pytest.mark.parametrize("kind", ["every step", "additive"])
def test_it_learns_and_every_parameter_does(kind: str):
    """Reversing four symbols of eight, in seconds."""
    net = _net(kind, vocabulary=11)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 400)
        source = torch.randint(3, 11, (64, 4), generator=generator)
        labels = source.flip(1)
        inputs = torch.cat((torch.ones(64, 1, dtype=torch.int64), labels[:, :-1]), dim=1)
        loss = F.cross_entropy(net(source, inputs).flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(p.grad is not None and bool(p.grad.any()) for p in net.parameters())
    source = torch.randint(3, 11, (100, 4), generator=generator)
    written = net.eval().greedy(source, max_new_tokens=4)
    right = sum(row == want for row, want in zip(written, source.flip(1).tolist(), strict=True))
    assert right / 100 > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_read(kind: str, tmp_path: Path):
    net = _net(kind).eval()
    save_recurrent(net, tmp_path)
    again = load_recurrent(tmp_path)
    assert again.config == net.config
    source, target = torch.randint(3, 20, (2, 7)), torch.randint(3, 20, (2, 5))
    with torch.inference_mode():
        # Weights are equal to the bit; where they lie in memory may change the order of a kernel's sums.
        torch.testing.assert_close(again(source, target), net(source, target))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), net.parameters(), strict=True))
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 16)
    with pytest.raises(DataError):
        load_recurrent(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bloomery_recurrent", "wings": 2}')
    with pytest.raises(ConfigError, match="wings"):
        load_recurrent(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ConfigError, match="llama"):
        load_recurrent(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "rnn"},
        {"context": "none"},
        {"bidirectional": True},
        {"hidden_size": 0},
        {"dropout": 1.0},
        {"context": "additive", "cell": "lstm"},
        {"context": "every_step", "num_layers": 2},
    ],
)
def test_what_makes_no_net(options: dict[str, Any]):
    with pytest.raises(ConfigError):
        RecurrentConfig(source_vocab_size=9, target_vocab_size=9, **options)


def test_an_empty_source():
    with pytest.raises(RequestError, match="empty"):
        _net("gru").encode(torch.tensor([[3, 4], [0, 0]]))
