"""HeadsObjective: each head learns the token that it is ahead by, over a decoder that stays as it is.

The decoder's states are computed once for all heads, without a gradient; a head's loss is over the places whose tokens
up to its own are of the same document. Validation reports, beside nats, how often a head's likeliest token is the one
that the decoder itself would have chosen there: that is what a guess is checked against. Shapes: B rows, T tokens, E
hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.models import Decoder
from bloomery.models.future_heads import FutureHeads
from bloomery.tokenizer import PackedRows, TokenShards, evaluation_rows
from bloomery.training.linear_cross_entropy import IGNORED, linear_cross_entropy
from bloomery.training.objective import (
    Batch,
    Validation,
    evaluating,
    own_batches,
    precision_context,
    take,
    to_device,
    totals,
)


class HeadsObjective:
    """Extra heads over a frozen decoder, on packed rows."""

    unit = "tok"
    divisible = True
    packed = True

    def __init__(
        self,
        heads: FutureHeads,
        decoder: Decoder,
        rows: PackedRows,
        validation: TokenShards | None,
        *,
        validation_rows: int = 64,
    ) -> None:
        self._heads, self.decoder, self.rows = heads, decoder, rows
        self.validation, self.validation_rows = validation, validation_rows

    @property
    def model(self) -> nn.Module:
        return self._heads

    def next_batch(self, rows: int) -> Batch:
        """`input_ids` and `labels`, both (B, T)."""
        input_ids, labels = self.rows.next_batch(rows)
        tokens = int((labels != IGNORED).sum())
        return Batch(arrays={"input_ids": input_ids, "labels": labels}, weight=tokens, items=tokens)

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Summed nats, of all heads together, divided by their number."""
        decoder = self.decoder
        parts = [
            linear_cross_entropy(states, decoder.output_weight, targets, softcap=decoder.output_softcap)
            for states, targets, _ in self._by_head(arrays["input_ids"], arrays["labels"])
        ]
        return torch.stack(parts).sum() / len(parts)

    def can_validate(self) -> bool:
        """Whether the validation split has tokens."""
        return self.validation is not None and self.validation.num_tokens > 0

    def validate(self, batches: int | None, device: torch.device, precision: str) -> Validation:
        """`nats_per_token`, the heads' mean, and `agreement_1` and on: the share of a head's places at which its
        likeliest token is the decoder's own."""
        assert self.validation is not None
        shards, length = self.validation, self.rows.context_length
        sums: dict[str, float] = {}
        with evaluating(self._heads):
            for input_ids, labels in own_batches(take(evaluation_rows(shards, length, self.validation_rows), batches)):
                arrays = to_device({"input_ids": input_ids, "labels": labels}, device)
                with precision_context(device, precision):
                    for name, value in self._figures(arrays).items():
                        sums[name] = sums.get(name, 0.0) + value
        found = totals(sums)
        count = len(self._heads.heads)
        nats = [found[f"nats_{k}"] / max(1.0, found[f"places_{k}"]) for k in range(1, count + 1)]
        agreed = {f"agreement_{k}": found[f"same_{k}"] / max(1.0, found[f"places_{k}"]) for k in range(1, count + 1)}
        return Validation({"nats_per_token": sum(nats) / count, **agreed}, "nats_per_token")

    def state_dict(self) -> dict[str, Any]:
        """Where the rows stand."""
        return self.rows.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the rows stood."""
        self.rows.load_state_dict(state)

    def stats(self) -> dict[str, Any]:
        """How the rows were packed."""
        return {"packing": dict(self.rows.stats)}

    def _figures(self, arrays: Mapping[str, Tensor]) -> dict[str, float]:
        decoder, found = self.decoder, dict[str, float]()
        for k, (states, targets, own) in enumerate(self._by_head(arrays["input_ids"], arrays["labels"]), 1):
            places = targets != IGNORED
            nats = linear_cross_entropy(states, decoder.output_weight, targets, softcap=decoder.output_softcap)
            guessed = decoder.logits(states[places]).argmax(dim=-1)
            same = (guessed == decoder.logits(own[places]).argmax(dim=-1)).sum()
            found |= {f"nats_{k}": float(nats), f"places_{k}": float(places.sum()), f"same_{k}": float(same)}
        return found

    def _by_head(self, input_ids: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For each head: its states (N, E), the tokens that it should expect (N,), -100 where the text has ended, and
        the decoder's own states there (N, E)."""
        with torch.no_grad():
            own = self.decoder.hidden_states(input_ids)
            embedded = self.decoder.model.embed_tokens(labels.clamp_min(0))
        states, sound = own, labels != IGNORED
        for k, head in enumerate(self._heads.heads, 1):
            # The state at t has seen the token at t; labels[t + k - 1] is the k-th after it, labels[t + k] the next.
            length = labels.size(1) - k
            states = head(states[:, :length], embedded[:, k - 1 : k - 1 + length])
            sound = sound[:, :length] & (labels[:, k:] != IGNORED)
            targets = torch.where(sound, labels[:, k:], IGNORED)
            yield states.flatten(0, 1), targets.flatten(), own[:, k:].flatten(0, 1)
