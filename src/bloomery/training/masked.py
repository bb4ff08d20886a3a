"""The masked objective: fill blanks, seeing both sides (Devlin et al., arXiv 1810.04805).

Rows are packed documents, as for the causal objective, and documents of a row see each other, as in RoBERTa's
full-sentences format (Liu et al., arXiv 1907.11692): a separator stands between them. This module does not know how
blanks are chosen (see `corruption`). Shapes: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bloomery.core.errors import ConfigError
from bloomery.models.encoder import Encoder
from bloomery.tokenizer import Tokenizer
from bloomery.training.batches import BatchObjective
from bloomery.training.corruption import MaskingConfig, WordEdges, mask_tokens
from bloomery.training.linear_cross_entropy import IGNORED
from bloomery.training.loader import RowLoader, TokenRows
from bloomery.training.objective import Batch


class MaskedObjective(BatchObjective[TokenRows]):
    """Blanks in packed rows, for an encoder with a masked head."""

    packed = True

    def __init__(
        self, model: Encoder, loader: RowLoader, tokenizer: Tokenizer, config: MaskingConfig, *, seed: int
    ) -> None:
        super().__init__(model, loader, seed=seed)
        if model.config.head != "masked":
            raise ConfigError(f'a masked objective needs a "masked" head, not {model.config.head!r}')
        if tokenizer.mask_id is None:
            raise ConfigError("this tokenizer has no mask token", hint="train one with --set tokenizer.masks=true")
        self.encoder, self.masking, self.mask_id = model, config, tokenizer.mask_id
        self.pad_id = model.config.pad_token_id or 0
        special = np.array(sorted(tokenizer.special_ids), dtype=np.int64)
        self._special = special
        self._random_ids = np.setdiff1d(np.arange(tokenizer.vocab_size), special)
        self._edges = WordEdges(tokenizer) if config.whole_words else None

    def collate(self, material: TokenRows, rng: np.random.Generator, *, training: bool) -> Batch:
        """`input_ids` with blanks, `labels` -100 but there, and `attention_mask` where a row is padded, all (B, T)."""
        ids, following = material
        real = following != IGNORED
        maskable = real & ~np.isin(ids, self._special)
        seen, labels = mask_tokens(
            ids,
            maskable,
            rng,
            self.masking,
            mask_id=self.mask_id,
            random_ids=self._random_ids,
            edges=self._edges,
        )
        arrays = {"input_ids": np.where(real, seen, self.pad_id), "labels": labels}
        if not real.all():
            real[:, 0] = True  # a row of padding alone (the end of validation) still needs something to see
            arrays["attention_mask"] = real.astype(np.int64)
        return Batch(arrays=arrays, weight=int((labels != IGNORED).sum()), items=int(real.sum()))

    def _scores(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (N, V) and labels (N,) of the blanks alone: the head is computed for no other place."""
        hidden = self.encoder.hidden_states(arrays["input_ids"], arrays.get("attention_mask"), unpad=None)
        blank = arrays["labels"] != IGNORED
        return self.encoder.logits(hidden[blank]).float(), arrays["labels"][blank]

    def loss(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Summed nats over blanks."""
        return F.cross_entropy(*self._scores(arrays), reduction="sum")

    def figures(self, arrays: Mapping[str, Tensor]) -> Mapping[str, float]:
        """Nats and accuracy, of blanks."""
        logits, labels = self._scores(arrays)
        right = (logits.argmax(-1) == labels).sum()
        return {"nats_per_token": float(F.cross_entropy(logits, labels, reduction="sum")), "accuracy": float(right)}


def blank_at(encoder: Encoder, input_ids: Tensor, mask_id: int) -> Tensor:
    """Nats of each token of (T,) ids when it alone is a blank, (T,): the pseudo-log-likelihood of Salazar et al.
    (arXiv 1910.14659), sign turned."""
    length = input_ids.size(0)
    rows = input_ids.repeat(length, 1)
    rows.fill_diagonal_(mask_id)
    with torch.inference_mode():
        hidden = encoder.hidden_states(rows)[torch.arange(length), torch.arange(length)]
        return F.cross_entropy(encoder.logits(hidden).float(), input_ids, reduction="none")
