"""Replay: rows of a domain with a share of general rows among them, so that what was known is not forgotten.

Mixing a few per cent of the first data into later training keeps most of what a model knew (Ibrahim et al. 2024, arXiv
2403.08763). The share is met exactly over a run: which batch has one row more follows from its number alone. This
module does not know corpora.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from bloomery.core.errors import ConfigError
from bloomery.models import Decoder
from bloomery.tokenizer import PackedRows, TokenShards
from bloomery.training.causal import CausalObjective
from bloomery.training.linear_cross_entropy import IGNORED
from bloomery.training.objective import Batch, Validation


class ReplayObjective(CausalObjective):
    """Next tokens of the domain's rows, and of general ones: a share `replay` of all rows."""

    def __init__(
        self,
        model: Decoder,
        rows: PackedRows,
        validation: TokenShards | None,
        *,
        general: PackedRows | None,
        general_validation: TokenShards | None = None,
        replay: float,
        validation_rows: int = 64,
    ) -> None:
        super().__init__(model, rows, validation, validation_rows=validation_rows)
        if replay and general is None:
            raise ConfigError("there is no general corpus to replay", hint="give one, or replay=0")
        if general is not None and general.context_length != rows.context_length:
            raise ConfigError("domain and general rows have other lengths")
        self.general, self.replay = general, replay
        self._general = None if general is None else CausalObjective(model, general, general_validation)
        self._made = self._general_rows = self._domain_rows = 0

    def next_batch(self, rows: int) -> Batch:
        """As `CausalObjective`; general rows stand behind the domain's."""
        before, after = (int(count * rows * self.replay + 1e-9) for count in (self._made, self._made + 1))
        general = after - before
        self._made += 1
        parts = [(self.rows, rows - general), (self.general, general)]
        found = [source.next_batch(count) for source, count in parts if source is not None and count]
        input_ids, labels = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        self._general_rows += general
        self._domain_rows += rows - general
        tokens = int((labels != IGNORED).sum())
        return Batch(arrays={"input_ids": input_ids, "labels": labels}, weight=tokens, items=tokens)

    def validate(self, batches: int | None, device: torch.device, precision: str) -> Validation:
        """The domain's figures, and the general text's beside them if there is any."""
        found = super().validate(batches, device, precision)
        if self._general is None or not self._general.can_validate():
            return found
        other = self._general.validate(batches, device, precision)
        more = {f"general_{name}": value for name, value in other.values.items()}
        return Validation({**found.values, **more}, found.headline)

    def state_dict(self) -> dict[str, Any]:
        """Where both stand."""
        return {
            "domain": self.rows.state_dict(),
            "general": None if self.general is None else self.general.state_dict(),
            "made": [self._made, self._domain_rows, self._general_rows],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on there."""
        self.rows.load_state_dict(state["domain"])
        if self.general is not None:
            self.general.load_state_dict(state["general"])
        self._made, self._domain_rows, self._general_rows = (int(count) for count in state["made"])

    def stats(self) -> dict[str, Any]:
        """Rows of each kind, and how the domain's were packed."""
        read = {"domain_rows": self._domain_rows, "general_rows": self._general_rows}
        return {**read, "domain_epoch": self.rows.epoch, **super().stats()}
