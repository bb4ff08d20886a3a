"""Which parameter is trained by what: Muon for hidden matrices, AdamW for embeddings, head, norms and biases.

This module does not know the loop. State is exported and restored by parameter name, as plain tensors, so that
a checkpoint needs no pickle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bloomery.core.errors import ConfigError, DataError
from bloomery.training.muon import Muon

_ADAM_STATE = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Peak learning rates and their kin; the defaults were tuned on validation text at 1M to 15M parameters."""

    matrix_lr: float = 0.02
    """Muon, hidden matrices; in units of the update's spectral norm."""
    embedding_lr: float = 0.02
    """AdamW, token embedding (and the output head tied to it)."""
    head_lr: float = 0.004
    """AdamW, output head that is not tied."""
    scalar_lr: float = 0.02
    """AdamW, norms and biases."""
    matrix_momentum: float = 0.95
    """Nesterov momentum of Muon."""
    matrix_weight_decay: float = 0.05
    """Decoupled, multiplied by the learning rate."""
    adam_beta1: float = 0.9
    """First moment of AdamW."""
    adam_beta2: float = 0.95
    """Second moment of AdamW."""
    adam_weight_decay: float = 0.0
    """Decoupled; embeddings and scalars are not decayed by default."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            below = 1.0 if name.startswith(("adam_beta", "matrix_momentum")) else 1e3
            if not 0 <= value < below:
                raise ConfigError(f'"pretrain.optimizer.{name}" should be from 0 to below {below:g}, not {value:g}')


class Optimizers:
    """Both optimisers of one model, stepped together.

    `multiplier` scales every learning rate (the schedule). Names are those of `model.named_parameters()`.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig, *, muon_dtype: torch.dtype = torch.float32) -> None:
        named = dict(model.named_parameters())
        matrices = {n: p for n, p in named.items() if p.ndim == 2 and not _is_table(n)}
        others = {n: p for n, p in named.items() if n not in matrices}
        rates = {n: _adam_rate(n, config) for n in others}
        groups = [
            {"params": [(n, others[n]) for n in others if rates[n] == rate], "lr": rate}
            for rate in sorted(set(rates.values()))
        ]
        self.named = named
        fused = all(p.device.type in ("cpu", "cuda") for p in named.values())
        self.adamw = torch.optim.AdamW(
            groups,
            betas=(config.adam_beta1, config.adam_beta2),
            weight_decay=config.adam_weight_decay,
            fused=fused,
        )
        self.muon = Muon(
            matrices.items(),
            lr=config.matrix_lr,
            momentum=config.matrix_momentum,
            weight_decay=config.matrix_weight_decay,
            compute_dtype=muon_dtype,
        )
        self._peaks = [(g, g["lr"]) for o in (self.adamw, self.muon) for g in o.param_groups]

    def step(self, multiplier: float) -> None:
        """One update with every learning rate at `multiplier` times its peak; gradients are cleared."""
        for group, peak in self._peaks:
            group["lr"] = peak * multiplier
        self.adamw.step()
        self.muon.step()
        self.adamw.zero_grad(set_to_none=True)
        self.muon.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, Tensor]:
        """Every state tensor under `<optimizer>.<parameter>.<slot>`."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.named.items():
            for label, optimizer in (("adamw", self.adamw), ("muon", self.muon)):
                for slot, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"{label}.{name}.{slot}"] = value
        return tensors

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state_tensors` gave; DataError if a tensor belongs to no parameter of this model."""
        for key, value in tensors.items():
            label, _, rest = key.partition(".")
            name, _, slot = rest.rpartition(".")
            parameter = self.named.get(name)
            optimizer = {"adamw": self.adamw, "muon": self.muon}.get(label)
            if parameter is None or optimizer is None or (label == "adamw" and slot not in _ADAM_STATE):
                raise DataError(f"the checkpoint holds optimiser state {key!r} that this model does not have")
            # AdamW keeps its step counter on the CPU unless it is fused; `to` follows what it would have made.
            device = parameter.device if slot != "step" or self.adamw.defaults["fused"] else torch.device("cpu")
            optimizer.state[parameter][slot] = value.to(device, copy=True)


def _is_table(name: str) -> bool:
    return "embed_tokens" in name or name.startswith("lm_head")


def _adam_rate(name: str, config: OptimizerConfig) -> float:
    if "embed_tokens" in name:
        return config.embedding_lr
    return config.head_lr if name.startswith("lm_head") else config.scalar_lr
