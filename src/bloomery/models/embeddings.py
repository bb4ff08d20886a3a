"""Embedding rows: a token's neighbours by cosine, and a plane to draw them on.

Shapes: V vocabulary, E hidden_size. This module does not know what the tokens are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bloomery.core.errors import ConfigError, RequestError
from bloomery.models.decoder import Decoder
from bloomery.models.encoder import Encoder
from bloomery.models.recurrent import RecurrentSeq2Seq
from bloomery.models.seq2seq import Seq2Seq

_ROWS_AT_ONCE = 1 << 15


def embedding_of(model: nn.Module) -> Tensor:
    """(V, E): what a model reads its tokens with (a recurrent net: those of the source). ConfigError if it has none."""
    if isinstance(model, Decoder):
        return model.model.embed_tokens.weight
    if isinstance(model, Encoder | Seq2Seq):
        return model.embed_tokens.weight
    if isinstance(model, RecurrentSeq2Seq):
        return model.embed_source.weight
    raise ConfigError(f"a {type(model).__name__} has no token embedding")


@torch.no_grad()
def neighbours(embedding: Tensor, index: int, *, top: int = 10) -> tuple[Tensor, Tensor]:
    """(ids, cosines) of the `top` rows of (V, E) nearest to row `index`, itself left out; the nearest first."""
    size = embedding.size(0)
    if not 0 <= index < size:
        raise RequestError(f"token id {index} is outside the vocabulary of {size:,}", param="token")
    if top < 1:
        raise RequestError("top should be at least 1", param="top")
    row = embedding[index].float()
    parts = [
        torch.nn.functional.cosine_similarity(part.float(), row[None], dim=-1)
        for part in embedding.split(_ROWS_AT_ONCE)
    ]
    cosines = torch.cat(parts)
    cosines[index] = -torch.inf
    best = cosines.topk(min(top, size - 1))
    return best.indices, best.values


@torch.no_grad()
def plane(rows: Tensor) -> Tensor:
    """(N, E) -> (N, 2): their principal components, the sign such that the first row's coordinates are not negative."""
    centred = rows.float() - rows.float().mean(dim=0)
    left, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    found = torch.nn.functional.pad((left * sizes)[:, :2], (0, max(0, 2 - sizes.numel())))
    return found * torch.where(found[0] < 0, -1.0, 1.0)
