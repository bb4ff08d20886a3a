"""Recurrent nets: published parameter counts, steps equal the whole, padding changes nothing, they learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bloomery.core.errors import ConfigError, DataError, RequestError
from bloomery.models.recurrent import RecurrentConfig, RecurrentSeq2Seq, Source, load_recurrent, save_recurrent

KINDS: dict[str, dict[str, Any]] = {
    "gru": {},
    "lstm": {"cell": "lstm", "num_layers": 2},
    "every step": {"context": "every_step"},
    "additive": {"context": "additive", "bidirectional": True},
    "dot": {"context": "dot"},
    "dot, both ways": {"context": "dot", "bidirectional": True},
    "both ways, every step": {"context": "every_step", "bidirectional": True, "num_layers": 2},
    "two LSTM layers, additive": {"context": "additive", "cell": "lstm", "num_layers": 2, "bidirectional": True},
    "two LSTM layers, dot": {"context": "dot", "cell": "lstm", "num_layers": 2},
    "LSTM, every step": {"context": "every_step", "cell": "lstm"},
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


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


class _ByHand:
    """The equations of the papers, one text, one layer and one step at a time, in float64."""

    def __init__(self, net: RecurrentSeq2Seq) -> None:
        self.config = net.config
        self.w = {name: p.detach().double().numpy() for name, p in net.named_parameters()}

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return self.w[f"{name}.weight"] @ x + self.w.get(f"{name}.bias", 0.0)

    def cell(self, name: str, x: np.ndarray, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        part, layer = name.split("/")
        a = self.w[f"{part}.weight_ih_{layer}"] @ x + self.w[f"{part}.bias_ih_{layer}"]
        b = self.w[f"{part}.weight_hh_{layer}"] @ h + self.w[f"{part}.bias_hh_{layer}"]
        if self.config.cell == "lstm":
            i, f, g, o = np.split(a + b, 4)
            c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
            return _sigmoid(o) * np.tanh(c), c
        (ar, az, an), (br, bz, bn) = np.split(a, 3), np.split(b, 3)
        z = _sigmoid(az + bz)
        return (1 - z) * np.tanh(an + _sigmoid(ar + br) * bn) + z * h, c

    def encoded(self, source: list[int]) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """The top layer's states, and the last h and c of every layer, both ways side by side."""
        xs, size = [self.w["embed_source.weight"][i] for i in source], self.config.hidden_size
        last_h, last_c = [], []
        for layer in range(self.config.num_layers):
            ways = []
            for suffix, order in (("", 1), ("_reverse", -1))[: 1 + self.config.bidirectional]:
                h, c, states = np.zeros(size), np.zeros(size), []
                for x in xs[::order]:
                    h, c = self.cell(f"encoder/l{layer}{suffix}", x, h, c)
                    states.append(h)
                ways.append((states[::order], h, c))
            xs = [np.concatenate(pair) for pair in zip(*(way[0] for way in ways), strict=True)]
            last_h.append(np.concatenate([way[1] for way in ways]))
            last_c.append(np.concatenate([way[2] for way in ways]))
        return np.array(xs), last_h, last_c

    def seen(self, h: np.ndarray, states: np.ndarray) -> np.ndarray:
        if self.config.context == "additive":
            v = self.w["attention.score.weight"][0]
            scores = [v @ np.tanh(self.linear("attention.joint", np.concatenate((h, s)))) for s in states]
        else:
            between = self.w.get("attention.between.weight")
            scores = [h @ (s if between is None else between @ s) for s in states]
        weights = np.exp(np.array(scores) - max(scores))
        return weights / weights.sum() @ states

    def logits(self, source: list[int], target: list[int]) -> np.ndarray:
        states, hs, cs = self.encoded(source)
        if "bridge.weight" in self.w:
            hs = np.split(np.tanh(self.linear("bridge", np.concatenate(hs))), self.config.num_layers)
            if self.config.cell == "lstm":
                cs = np.split(self.linear("cell_bridge", np.concatenate(cs)), self.config.num_layers)
        fixed, rows = hs[-1], []
        for token in target:
            x = embedded = self.w["embed_target.weight"][token]
            context = self.seen(hs[-1], states) if self.config.attends else fixed
            if self.config.context != "state":
                x = np.concatenate((embedded, context))
            for layer in range(self.config.num_layers):
                hs[layer], cs[layer] = self.cell(f"decoder/l{layer}", x, hs[layer], cs[layer])
                x = hs[layer]
            rows.append(x if self.config.context == "state" else np.concatenate((x, context, embedded)))
        return np.array([self.linear("lm_head", row) for row in rows])


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_the_equations_by_hand(kind: str):
    net = _net(kind).eval()
    source, target = torch.randint(3, 20, (3, 6)), torch.randint(3, 20, (3, 5))
    source[1, 4:] = source[2, 1:] = 0
    got = net(source, target)
    for row, length in enumerate((6, 4, 1)):
        expected = _ByHand(net).logits(source[row, :length].tolist(), target[row].tolist())
        assert np.abs(got[row].numpy() - expected).max() < 1e-5


@torch.inference_mode()
def test_without_attention_nothing_else_of_the_source_is_there():
    """The decoder's only knowledge is the encoder's last state (and that state as the context)."""
    assert _net("gru").encode(torch.tensor([[3, 4]])).source is None
    assert _net("gru").encode(torch.tensor([[3, 4]])).context is None
    assert _net("every step").encode(torch.tensor([[3, 4]])).source is None


@torch.inference_mode()
def test_additive_attention_is_bahdanaus():
    """v tanh(W [s; h]) over the real states, by hand."""
    net = _net("additive")
    assert net.attention is not None and net.attention.joint is not None and net.attention.score is not None
    hidden, states = torch.randn(1, 32), torch.randn(1, 4, 64)
    mask = torch.tensor([[True, True, True, False]])
    scores = [
        float(net.attention.score.weight[0] @ torch.tanh(net.attention.joint(torch.cat((hidden[0], states[0, n])))))
        for n in range(3)
    ]
    expected = torch.tensor([*torch.tensor(scores).softmax(0).tolist(), 0.0])
    source = Source(states, net.attention.keys(states), mask)
    torch.testing.assert_close(net.attention(hidden, source)[0], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_reaches_every_parameter(kind: str):
    net = _net(kind)
    source, target = torch.randint(3, 20, (8, 6)), torch.randint(3, 20, (8, 5))
    net(source, target).logsumexp(dim=-1).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name


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
    config = (tmp_path / "config.json").read_text()
    # Found before anything of that size is asked for.
    (tmp_path / "config.json").write_text(config.replace('"hidden_size": 32', '"hidden_size": 4194304'))
    with pytest.raises(DataError, match="asks for"):
        load_recurrent(tmp_path)
    (tmp_path / "config.json").write_text(config)
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
        {"hidden_size": 0},
        {"dropout": 1.0},
        {"eos_token_id": 9},
        {"pad_token_id": -1},
    ],
)
def test_what_makes_no_net(options: dict[str, Any]):
    with pytest.raises(ConfigError):
        RecurrentConfig(source_vocab_size=9, target_vocab_size=9, **options)


def test_sources_that_are_none():
    with pytest.raises(RequestError, match="empty"):
        _net("gru").encode(torch.tensor([[3, 4], [0, 0]]))
    with pytest.raises(RequestError, match="padding before its end"):
        _net("gru").encode(torch.tensor([[3, 4, 5], [3, 0, 5]]))
