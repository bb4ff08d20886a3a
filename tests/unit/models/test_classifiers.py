"""Small classifiers: shapes, padding, gradients, the sums by hand, files, and what each can and cannot learn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.core.errors import ConfigError, DataError, RequestError
from bloomery.models.classifiers import (
    Classifier,
    ConvImageClassifier,
    ConvImageConfig,
    ConvTextClassifier,
    ConvTextConfig,
    MeanTextClassifier,
    MeanTextConfig,
    load_classifier,
    save_classifier,
)

TEXT = ["mean", "conv"]
KINDS = [*TEXT, "image"]


def _net(kind: str) -> Any:
    torch.manual_seed(0)
    if kind == "mean":
        config = MeanTextConfig(vocab_size=20, num_labels=3, hidden_size=16, intermediate_size=24, num_hidden_layers=2)
        return MeanTextClassifier(config)
    if kind == "conv":
        return ConvTextClassifier(ConvTextConfig(vocab_size=20, num_labels=3, hidden_size=16, num_filters=8))
    return ConvImageClassifier(ConvImageConfig(num_labels=3, num_channels=1, hidden_sizes=(8, 16)))


def _inputs(kind: str, rows: int = 4) -> Tensor:
    return torch.randn(rows, 1, 9, 12) if kind == "image" else torch.randint(0, 20, (rows, 7))


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_gradients(kind: str):
    net = _net(kind)
    logits = net(_inputs(kind))
    assert logits.shape == (4, 3)
    logits.square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name


def test_parameter_count_of_kims_net():
    """300-dimensional vectors, 100 filters each of widths 3, 4 and 5, two labels: the published sizes."""
    with torch.device("meta"):
        net = ConvTextClassifier(ConvTextConfig(vocab_size=18_765, hidden_size=300))
    vectors, filters, head = 18_765 * 300, 100 * (300 * (3 + 4 + 5) + 3), 300 * 2 + 2
    assert sum(p.numel() for p in net.parameters()) == vectors + filters + head


@pytest.mark.parametrize("kind", TEXT)
@pytest.mark.parametrize("length", [1, 2, 5])
@torch.inference_mode()
def test_padding_changes_nothing(kind: str, length: int):
    """Nor does what stands in the padding; shorter than the widest filter too."""
    net, ids = _net(kind).eval(), torch.randint(0, 20, (3, length))
    alone = net(ids)
    after = torch.cat((ids, torch.randint(0, 20, (3, 6))), dim=1)
    mask = torch.cat((torch.ones(3, length), torch.zeros(3, 6)), dim=1).long()
    assert (net(after, mask) - alone).abs().max() < 1e-6
    assert (net(after.roll(6, dims=1), mask.roll(6, dims=1)) - alone).abs().max() < 1e-6
    assert (net(after) - alone).abs().max() > 1e-3


@torch.inference_mode()
def test_the_mean_by_hand():
    net, ids = _net("mean").eval(), [3, 3, 17]
    x = sum(net.embed_tokens.weight[i] for i in ids) / 3
    for layer in net.layers:
        x = torch.relu(layer.weight @ x + layer.bias)
    torch.testing.assert_close(net(torch.tensor([ids]))[0], net.classifier.weight @ x + net.classifier.bias)


@torch.inference_mode()
def test_the_filters_by_hand():
    net, ids = _net("conv").eval(), [3, 11, 5, 17, 2]
    rows = net.embed_tokens.weight[torch.tensor(ids)]
    best = []
    for width, conv in zip((3, 4, 5), net.convs, strict=True):
        edge = torch.zeros(width - 1, 16)
        padded = torch.cat((edge, rows, edge))
        windows = [padded[start : start + width] for start in range(len(padded) - width + 1)]
        scores = [torch.einsum("foe,ef->o", conv.weight.permute(2, 0, 1), w.T) + conv.bias for w in windows]
        best.append(torch.stack(scores).relu().amax(dim=0))
    torch.testing.assert_close(net(torch.tensor([ids]))[0], net.classifier(torch.cat(best)), atol=1e-5, rtol=1e-5)


def _trained(net: nn.Module, sample: Callable[[int], tuple[Tensor, Tensor]], steps: int) -> float:
    """Accuracy on new examples after some steps of AdamW."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    for _ in range(steps):
        inputs, labels = sample(64)
        loss = F.cross_entropy(net(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    inputs, labels = sample(500)
    with torch.inference_mode():
        return float((net.eval()(inputs).argmax(dim=-1) == labels).float().mean())


def _order(generator: torch.Generator) -> Callable[[int], tuple[Tensor, Tensor]]:
    """Token 1 and token 2 stand side by side among others: which comes first?"""

    def sample(rows: int) -> tuple[Tensor, Tensor]:
        ids = torch.randint(3, 20, (rows, 8), generator=generator)
        places, labels = (
            torch.randint(0, 7, (rows,), generator=generator),
            torch.randint(0, 2, (rows,), generator=generator),
        )
        every = torch.arange(rows)
        ids[every, places], ids[every, places + 1] = 1 + labels, 2 - labels
        return ids, labels

    return sample


def test_the_mean_learns_words_and_not_their_order():
    generator = torch.Generator().manual_seed(0)

    def which(rows: int) -> tuple[Tensor, Tensor]:
        ids = torch.randint(3, 20, (rows, 8), generator=generator)
        labels = torch.randint(0, 2, (rows,), generator=generator)
        ids[:, 3] = 1 + labels
        return ids, labels

    assert _trained(_net("mean"), which, 150) > 0.95
    assert _trained(_net("mean"), _order(generator), 150) < 0.6


def test_filters_learn_the_order():
    assert _trained(_net("conv"), _order(torch.Generator().manual_seed(0)), 250) > 0.95


def test_pictures_are_learnt():
    """A bar that lies or stands, somewhere: the same pixels in another place."""
    generator = torch.Generator().manual_seed(0)

    def bars(rows: int) -> tuple[Tensor, Tensor]:
        pictures = 0.3 * torch.randn(rows, 1, 12, 12, generator=generator)
        labels = torch.randint(0, 2, (rows,), generator=generator)
        corners = torch.randint(0, 7, (rows, 2), generator=generator).tolist()
        for picture, label, (a, b) in zip(pictures, labels.tolist(), corners, strict=True):
            if label:
                picture[0, a, b : b + 6] += 1.0
            else:
                picture[0, b : b + 6, a] += 1.0
        return pictures, labels

    assert _trained(_net("image"), bars, 150) > 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_read(kind: str, tmp_path: Path):
    net: Classifier = _net(kind).eval()
    save_classifier(net, tmp_path)
    again = load_classifier(tmp_path)
    assert type(again) is type(net) and again.config == net.config
    ours, theirs = net.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    inputs = _inputs(kind)
    with torch.inference_mode():
        # The same weights; where they lie in memory may change the order of a kernel's sums.
        torch.testing.assert_close(again(inputs), net(inputs))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "wings": 2}))
    with pytest.raises(ConfigError, match="wings"):
        load_classifier(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    with pytest.raises(ConfigError, match="llama"):
        load_classifier(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 16)
    with pytest.raises(DataError):
        load_classifier(tmp_path)


def test_what_makes_no_net():
    with pytest.raises(ConfigError, match="vocab_size"):
        MeanTextConfig(vocab_size=0)
    with pytest.raises(ConfigError, match="dropout"):
        MeanTextConfig(vocab_size=9, dropout=1.0)
    with pytest.raises(ConfigError, match="kernel_sizes"):
        ConvTextConfig(vocab_size=9, kernel_sizes=())
    with pytest.raises(ConfigError, match="hidden_sizes"):
        ConvImageConfig(hidden_sizes=(8, 0))


def test_pictures_that_do_not_fit():
    net = _net("image")
    for shape in ((4, 9, 12), (4, 3, 9, 12), (4, 1, 3, 12)):
        with pytest.raises(RequestError, match="pictures should be"):
            net(torch.zeros(shape))
