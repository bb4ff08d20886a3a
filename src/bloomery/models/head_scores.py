"""Numbers that tell what a head does: entropy, looking at the token before, induction.

Induction as in Olsson et al., arXiv 2209.11895: on random tokens that come twice, the mean weight from a token of the
second copy to the token that followed its first occurrence. Shapes: L layers, H heads, T length. Cheap enough to be
asked while a model trains; the random numbers are its own. This module does not know texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.core.errors import RequestError
from bloomery.models.decoder import Decoder
from bloomery.models.inside import Look, capture, chunks, stacks


@dataclass(frozen=True, kw_only=True)
class HeadStatistics:
    """Means over the queries of one text; (H) each."""

    entropy: Tensor
    """Of the weights, in nats: 0 looks at one key, ln S at all alike."""
    previous: Tensor
    """Weight on the token before; over all queries but the first."""


@torch.no_grad()
def head_statistics(look: Look, *, batch: int = 0) -> HeadStatistics:
    """Statistics of one attention's heads. `previous` counts keys as the queries are counted: self attention only."""
    _, heads, length, total = look.shape
    entropy = previous = torch.zeros(heads, device=look.weights(0, 1, batch=batch).device)
    for start, stop in chunks(look):
        weights = look.weights(start, stop, batch=batch)
        entropy = entropy + torch.special.entr(weights).sum(dim=(1, 2))
        # With a cache the first query stands after the keys of earlier steps.
        places = torch.arange(start, stop, device=weights.device) + total - length - 1
        seen = (places >= 0).nonzero().flatten()
        previous = previous + weights[:, seen, places[seen]].sum(dim=1)
    counted = length - 1 if total == length else length
    return HeadStatistics(entropy=entropy / length, previous=previous / max(1, counted))


@torch.no_grad()
def induction_scores(
    decoder: Decoder,
    *,
    length: int = 32,
    rows: int = 4,
    seed: int = 0,
    first_tokens: Sequence[int] = (),
    drawn_from: Sequence[int] = (),
) -> Tensor:
    """(L, H) float32 on the CPU: `rows` texts of `length` random tokens, each once in a text, and the same again.

    `first_tokens` come before (a BOS, where the model expects one); the others are drawn from the whole vocabulary,
    or from the ids of `drawn_from`. A head that looks at all alike has about 1 / (1.5 length). RequestError if the
    texts do not fit the context or there are fewer ids than `length`.
    """
    ids = torch.tensor(drawn_from) if drawn_from else torch.arange(decoder.config.vocab_size)
    if length < 2 or rows < 1:
        raise RequestError("induction needs at least 2 tokens and 1 row", param="length")
    if length > len(ids):
        raise RequestError(f"{length:,} different tokens are more than the vocabulary of {len(ids):,}")
    device = decoder.output_weight.device
    generator = torch.Generator().manual_seed(seed)
    once = torch.stack([ids[torch.randperm(len(ids), generator=generator)[:length]] for _ in range(rows)])
    before = torch.tensor([list(first_tokens)] * rows, dtype=torch.int64)
    (names,) = stacks(decoder).values()
    with capture(decoder) as looks:
        decoder.hidden_states(torch.cat((before, once, once), dim=1).to(device))
    return torch.stack([_induction(looks, name, len(first_tokens), length, rows) for name in names]).cpu()


def _induction(looks: Mapping[str, Look], name: str, offset: int, length: int, rows: int) -> Tensor:
    """(H): the mean weight of the second copy's queries on what followed their tokens the first time."""
    start, stop = offset + length, offset + 2 * length
    queries, look = torch.arange(length), looks[name]
    found = [look.weights(start, stop, batch=row)[:, queries, offset + queries + 1] for row in range(rows)]
    return torch.stack(found).mean(dim=(0, 2))
