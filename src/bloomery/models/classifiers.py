"""Small classifiers of texts and pictures: the baselines that larger models should beat.

Texts: the mean of the embeddings through a feed-forward net (Iyyer et al., 2015, ACL P15-1162; Joulin et al., arXiv
1607.01759) and convolutions of several widths (Kim, arXiv 1408.5882). Pictures: 3 x 3 convolutions, each stage half as
wide and high (LeCun et al., 1998; Simonyan and Zisserman, arXiv 1409.1556), with group norm (Wu and He, arXiv
1803.08494). Shapes: B batch, T tokens, E hidden_size, L num_labels. This module does not know tokenizers, files of
pictures or losses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError, RequestError, nearest
from bloomery.models.naming import Names
from bloomery.models.outline import shapes_only
from bloomery.models.weights import load_weights, read_json, save_weights

_NOTHING = re.compile(r"(?!)")
_LARGEST = 1 << 22


def _check_sizes(config: Any) -> None:
    """Every number of a config is a size, but for the dropout; tuples are of sizes, and not empty."""
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name == "dropout":
            if not 0 <= value < 1:
                raise ConfigError(f'"dropout" should be at least 0 and below 1, not {value!r}')
        elif not value or not all(1 <= size <= _LARGEST for size in (value if isinstance(value, tuple) else (value,))):
            raise ConfigError(f'"{field.name}" should be from 1 to {_LARGEST:,}, not {value!r}')


@dataclass(frozen=True, kw_only=True)
class MeanTextConfig:
    """Sizes of a `MeanTextClassifier`. Raises ConfigError for what makes no net."""

    vocab_size: int
    num_labels: int = 2
    hidden_size: int = 128
    """Width of the embeddings."""
    intermediate_size: int = 128
    num_hidden_layers: int = 1
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_sizes(self)


@dataclass(frozen=True, kw_only=True)
class ConvTextConfig:
    """Sizes of a `ConvTextClassifier`: Kim's, where not said otherwise. Raises ConfigError for what makes no net."""

    vocab_size: int
    num_labels: int = 2
    hidden_size: int = 128
    """Width of the embeddings."""
    kernel_sizes: tuple[int, ...] = (3, 4, 5)
    """How many tokens a filter spans."""
    num_filters: int = 100
    """Of each width."""
    dropout: float = 0.5

    def __post_init__(self) -> None:
        _check_sizes(self)


@dataclass(frozen=True, kw_only=True)
class ConvImageConfig:
    """Sizes of a `ConvImageClassifier`. Raises ConfigError for what makes no net."""

    num_labels: int = 10
    num_channels: int = 3
    """Of the picture: 3 for colours."""
    hidden_sizes: tuple[int, ...] = (32, 64, 128)
    """Filters of each stage."""
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_sizes(self)

    @property
    def smallest(self) -> int:
        """The least height and width of a picture: one place is left after the last stage."""
        return 2 ** len(self.hidden_sizes)


def _kept(input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    """(B, T, 1) bool: which tokens are real."""
    return (torch.ones_like(input_ids) if attention_mask is None else attention_mask).bool()[..., None]


class MeanTextClassifier(nn.Module):
    """Which words there are, not their order. A new one has PyTorch's usual random weights."""

    def __init__(self, config: MeanTextConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        widths = [config.hidden_size] + [config.intermediate_size] * config.num_hidden_layers
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(widths[-1], config.num_labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(B, T) ids -> logits (B, L). `attention_mask` (B, T) is 0 at padding, which counts for nothing."""
        kept = _kept(input_ids, attention_mask)
        x = (self.embed_tokens(input_ids) * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)
        for layer in self.layers:
            x = self.dropout(F.relu(layer(x)))
        return self.classifier(x)


class ConvTextClassifier(nn.Module):
    """Whether any place of the text matches each filter. A new one has PyTorch's usual random weights.

    Unlike Kim's, filters also lie across the text's ends: so a text shorter than a filter is one like any other, and
    padding changes nothing.
    """

    def __init__(self, config: ConvTextConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.convs = nn.ModuleList(
            nn.Conv1d(config.hidden_size, config.num_filters, width, padding=width - 1) for width in config.kernel_sizes
        )
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.num_filters * len(config.kernel_sizes), config.num_labels)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(B, T) ids -> logits (B, L). `attention_mask` (B, T) is 0 at padding, which counts for nothing."""
        kept = _kept(input_ids, attention_mask)
        x, real = (
            (self.embed_tokens(input_ids) * kept).transpose(1, 2),
            kept.transpose(1, 2).to(self.embed_tokens.weight.dtype),
        )
        found = []
        for width, conv in zip(self.config.kernel_sizes, self.convs, strict=True):
            # Places where a filter has a real token under it; after a ReLU nothing is below zero.
            counts = F.max_pool1d(F.pad(real, (width - 1, width - 1)), width, stride=1)
            found.append((F.relu(conv(x)) * counts).amax(dim=2))
        return self.classifier(self.dropout(torch.cat(found, dim=1)))


class ConvImageClassifier(nn.Module):
    """Stages of convolution, norm, ReLU and halving, then the mean over all places: pictures of any size.

    A new one has PyTorch's usual random weights.
    """

    def __init__(self, config: ConvImageConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.num_channels, *config.hidden_sizes]
        self.convs = nn.ModuleList(nn.Conv2d(*pair, kernel_size=3, padding=1, bias=False) for pair in pairwise(widths))
        self.norms = nn.ModuleList(nn.GroupNorm(1, width) for width in config.hidden_sizes)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(widths[-1], config.num_labels)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, num_channels, height, width) -> logits (B, L)."""
        config = self.config
        shape = tuple(pixel_values.shape)
        if len(shape) != 4 or shape[1] != config.num_channels or min(shape[2:]) < config.smallest:
            wanted = f"(B, {config.num_channels}, height, width), both at least {config.smallest}"
            raise RequestError(f"pictures should be {wanted}, not {shape}", param="pixel_values")
        x = pixel_values
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.max_pool2d(F.relu(norm(conv(x))), 2)
        return self.classifier(self.dropout(x.mean(dim=(2, 3))))


Classifier = MeanTextClassifier | ConvTextClassifier | ConvImageClassifier
_KINDS: dict[str, tuple[type[Any], type[Any]]] = {
    "bloomery_mean_text": (MeanTextClassifier, MeanTextConfig),
    "bloomery_conv_text": (ConvTextClassifier, ConvTextConfig),
    "bloomery_conv_image": (ConvImageClassifier, ConvImageConfig),
}

CLASSIFIER_TYPES = tuple(_KINDS)
"""The `model_type` of each."""


def load_classifier(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Classifier:
    """A classifier that `save_classifier` wrote, in evaluation mode. Raises ConfigError and DataError."""
    values = read_json(Path(folder) / "config.json")
    kind = values.get("model_type")
    if kind not in _KINDS:
        raise ConfigError(f"{folder} is a {kind!r:.60}, not a small classifier", hint=nearest(str(kind), _KINDS))
    model_class, config_class = _KINDS[kind]
    meta = ("model_type", "architectures", "dtype", "torch_dtype")
    with shapes_only():
        model = model_class(from_dict(config_class, {key: v for key, v in values.items() if key not in meta}))
    load_weights(model, Path(folder), Names(), ignored=_NOTHING, dtype=dtype, device=device)
    return model


def save_classifier(model: Classifier, folder: str | Path) -> None:
    """Write config.json and safetensors; only bloomery reads these kinds."""
    kind = next(name for name, (model_class, _) in _KINDS.items() if type(model) is model_class)
    document = {"model_type": kind, "architectures": [type(model).__name__], **to_dict(model.config)}
    save_weights(model, folder, Names(), document)
