"""Which format to pack a decoder in: measured here and now, the fastest that stays within a stated loss.

Speed: each distinct matrix of the model is packed once in each format and timed at several numbers of rows, in turn;
a format's score is the geometric mean, over those numbers, of plain float32's time over its own. Loss: the model
itself writes a few short texts (sampled from its own distribution), and the packed model's distribution over every
next token is compared with the plain one's. The mean Kullback-Leibler divergence is what coding such text costs
more, in nats per token. Shapes: B batch, T length, V vocabulary. This module does not know files.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bloomery.models.cache import KVCache
from bloomery.models.decoder import Decoder
from bloomery.models.packed import BITS, CPU_FORMATS, CUDA_FORMATS
from bloomery.models.packing import Maker, Packing, grouped_layers, head_format, make_layer, pack
from bloomery.models.quantize import QuantizedWeight, divides, quantize

PLAIN = "plain"
"""The name of the layers as they are, float32."""
MAX_LOSS_NATS = 0.01
"""The bound of "auto": mean divergence of the next token's distribution, nats per token, on text of the model's own.
0.014 bits per token: about 0.004 bits per byte at four bytes a token."""
_ROWS = (1, 8, 512)
_MAX_HEAD_ROWS = 8  # the head sees the last position of a prompt, and one for each sequence that is decoded
_REPEATS = 5
_SHAPE_SECONDS = 0.02
_PROBE = (4, 24)


@dataclass(frozen=True)
class Choice:
    """`format` is the fastest within the bound (PLAIN: none was faster). `speedup` is each format's score, above 1 is
    faster than plain float32; `loss_nats` of those that were looked at, fastest first."""

    format: str
    packing: Packing | None
    speedup: Mapping[str, float]
    loss_nats: Mapping[str, float]
    max_loss_nats: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "format": self.format,
            "packing": None if self.packing is None else self.packing.to_dict(),
            "speedup": dict(self.speedup),
            "loss_nats": dict(self.loss_nats),
            "max_loss_nats": self.max_loss_nats,
        }


def choose(
    decoder: Decoder,
    formats: Sequence[str] | None = None,
    rows: Sequence[int] = _ROWS,
    *,
    max_loss_nats: float = MAX_LOSS_NATS,
    group_size: int = 32,
    known: Mapping[str, QuantizedWeight] | None = None,
    make: Maker | None = None,
) -> tuple[Decoder, Choice]:
    """The decoder packed in the fastest format that loses at most `max_loss_nats`, and what was measured.

    `formats` None: all that the device has. The decoder that was given stays as it is; tensors that are not packed
    are shared. Timing takes some tens of milliseconds for each distinct matrix and format, packing comes on top.
    """
    cuda = next(decoder.parameters()).is_cuda
    formats = tuple(formats or (CUDA_FORMATS if cuda else CPU_FORMATS))
    speedup = measure(decoder, formats, rows, group_size=group_size, make=make)
    order = sorted((f for f in formats if speedup[f] > 1.0), key=lambda f: -speedup[f])
    losses: dict[str, float] = {}
    ids = written_by(decoder, *_PROBE) if order else torch.empty(0)
    for name in order:
        candidate = shared_copy(decoder)
        packing = pack(candidate, name, group_size=group_size, known=known, make=make)
        losses[name] = divergence(decoder, candidate, ids)
        if losses[name] <= max_loss_nats:
            return candidate, Choice(name, packing, speedup, losses, max_loss_nats)
    return decoder, Choice(PLAIN, None, speedup, losses, max_loss_nats)


def measure(
    decoder: Decoder,
    formats: Sequence[str],
    rows: Sequence[int] = _ROWS,
    *,
    group_size: int = 32,
    make: Maker | None = None,
) -> dict[str, float]:
    """Each format's speed over plain float32: the geometric mean over `rows` of the ratio of all matrices' times."""
    times = {name: dict.fromkeys(rows, 0.0) for name in (PLAIN, *formats)}
    device = next(decoder.parameters()).device
    with torch.inference_mode():
        for weight, count, is_head in _distinct(decoder):
            layers: dict[str, nn.Module] = {PLAIN: _plain(weight)}
            for name in formats:
                kind = head_format(name, None, device) if is_head else name
                rough = _rough(weight, kind, group_size)
                layers[name] = make_layer(weight, None, kind, known=rough, group_size=group_size, make=make)
            for number in rows:
                count_rows = min(number, _MAX_HEAD_ROWS) if is_head else number
                x = torch.randn(count_rows, weight.size(1), device=device, dtype=weight.dtype)
                for name, seconds in timed(layers, x).items():
                    times[name][number] += count * seconds
    ratios = {name: [times[PLAIN][n] / max(times[name][n], 1e-9) for n in rows] for name in formats}
    return {name: math.exp(statistics.fmean(math.log(max(r, 1e-9)) for r in found)) for name, found in ratios.items()}


def timed(layers: Mapping[str, nn.Module], x: Tensor) -> dict[str, float]:
    """Seconds of one call of each layer: the least of a few rounds in turn, for what else runs can only add."""
    least = dict.fromkeys(layers, math.inf)
    started = time.perf_counter()
    for round_ in range(_REPEATS + 1):  # the first warms up
        for name, layer in layers.items():
            before = time.perf_counter()
            layer(x)
            if x.is_cuda:
                torch.cuda.synchronize(x.device)
            if round_:
                least[name] = min(least[name], time.perf_counter() - before)
        if round_ and time.perf_counter() - started > _SHAPE_SECONDS * len(layers):
            break
    return least


@torch.inference_mode()
def written_by(decoder: Decoder, batch: int, length: int, *, seed: int = 0) -> Tensor:
    """(B, T) ids that the decoder itself writes: the first uniform, the others sampled from its distribution."""
    config, weight = decoder.config, next(decoder.parameters())
    length = min(length, config.max_position_embeddings)
    generator = torch.Generator().manual_seed(seed)
    cache = KVCache(config, batch, length, dtype=weight.dtype, device=weight.device)
    ids = [torch.randint(0, config.vocab_size, (batch, 1), generator=generator)]
    for _ in range(length - 1):
        logits = decoder(ids[-1].to(weight.device), cache=cache, last_only=True)[:, -1].float().cpu()
        ids.append(torch.multinomial(logits.softmax(dim=-1), 1, generator=generator))
    return torch.cat(ids, dim=1).to(weight.device)


@torch.inference_mode()
def divergence(plain: Decoder, packed: Decoder, ids: Tensor) -> float:
    """Mean KL(plain || packed) of the next token's distribution over all positions of ids (B, T), nats."""
    before, after = (F.log_softmax(model(ids).float(), dim=-1) for model in (plain, packed))
    return float(F.kl_div(after, before, log_target=True, reduction="none").sum(dim=-1).mean().clamp(min=0.0))


def shared_copy(decoder: Decoder) -> Decoder:
    """A second module tree over the same tensors."""
    tensors = [*decoder.parameters(), *decoder.buffers()]
    return copy.deepcopy(decoder, {id(tensor): tensor for tensor in tensors})


def _distinct(decoder: Decoder) -> Iterator[tuple[Tensor, int, bool]]:
    """(weight, how many of its shape, whether it is the output head) of each distinct matrix as it will be packed."""
    groups = [[getattr(parent, name) for name in names] for _, parent, names in grouped_layers(decoder)]
    shapes = [(sum(layer.out_features for layer in group), group[0].in_features) for group in groups]
    for shape, count in Counter(shapes).items():
        yield torch.cat([layer.weight for layer in groups[shapes.index(shape)]]), count, False
    yield decoder.output_weight, 1, True


def _rough(weight: Tensor, kind: str, group_size: int) -> QuantizedWeight | None:
    """Integers that take about as long to multiply as good ones: native int8 has groups, for a few percent of it."""
    size = group_size if kind == "int4" else None
    return quantize(weight, BITS[kind], size, clips=False) if kind in BITS and divides(weight, size) else None


def _plain(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.size(1), weight.size(0), bias=False, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    return layer
