"""Which parameter is trained by what: Muon for hidden matrices, AdamW for embeddings, heads, norms and biases; if it
is asked for, RowAdam for tables of hashed pairs.

This module does not know the loop. State is exported and restored by parameter name, as plain tensors, so that
a checkpoint needs no pickle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bloomery.core.errors import ConfigError, DataError
from bloomery.models.attention import Attention
from bloomery.training.muon import Muon
from bloomery.training.orthogonal import coefficients
from bloomery.training.row_adam import RowAdam

_HEADS = frozenset({"lm_head", "classifier", "output_weight"})
_STATE = {"adamw": ("exp_avg", "exp_avg_sq", "step"), "rows": ("exp_avg", "exp_avg_sq", "steps")}
_PAIRS, _VALUES, _LAMBDAS, _GATE = "embed_bigrams.", "embed_values.", ".mix.", "smear.gate"
_BETAS = {"adam_beta1", "adam_beta2", "matrix_momentum", "matrix_second_beta"}


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Peak learning rates and their kin; the defaults were tuned on validation text at 1M to 15M parameters."""

    matrix_lr: float = 0.02
    """Muon, hidden matrices; in units of the update's spectral norm."""
    embedding_lr: float = 0.02
    """AdamW, tables of embeddings (and an output head tied to one)."""
    head_lr: float = 0.004
    """AdamW, output heads that are not tied, and convolutions."""
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
    """Decoupled; for heads, convolutions and, without Muon, matrices. Tables, norms and biases are not decayed."""
    bigram_lr: float = 0.0
    """Tables of hashed pairs; 0: embedding_lr."""
    value_embedding_lr: float = 0.0
    """Value embeddings; 0: embedding_lr."""
    lambda_lr: float = 0.0
    """Residual and x0 lambdas; 0: scalar_lr."""
    bigram_rows: bool = False
    """Tables of hashed pairs are trained row by row: only rows that a batch touches are updated."""
    matrix_polynomial: Literal["newton_schulz", "polar_express"] = "newton_schulz"
    """What orthogonalises Muon's updates (Polar Express: arXiv 2505.16932)."""
    matrix_iterations: int = 5
    """How many times, at most 5; fewer are cheaper."""
    matrix_by_head: bool = True
    """The matrices of an attention are orthogonalised head by head, which is cheaper."""
    matrix_feed_block: int = 128
    """How many neurons of a feed-forward are orthogonalised together, at least, and never fewer than a third of the
    model's width, where they learn less; 0: all. Fewer are cheaper (MuonBP, arXiv 2510.16981)."""
    matrix_whole_every: int = 5
    """Of matrices cut by head or block: every so many steps each is orthogonalised whole, without which they learn
    less; 0: never."""
    matrix_second_beta: float = 0.0
    """Above 0: NorMuon's second moment of each neuron, with this memory (arXiv 2510.05491)."""
    matrix_cautious_decay: bool = False
    """Matrices decay only where their update goes the same way (arXiv 2510.12402)."""
    matrix_momentum_warmup_steps: int = 0
    """Steps over which Muon's momentum rises from .85 (modded-nanogpt)."""

    @property
    def rates(self) -> dict[str, float]:
        """Every learning rate by its name."""
        return {name: value for name, value in vars(self).items() if name.endswith("_lr")}

    def __post_init__(self) -> None:
        coefficients(self.matrix_polynomial, self.matrix_iterations)
        for name, value in vars(self).items():
            if isinstance(value, str):
                continue
            below = 1.0 if name in _BETAS else 1e3
            if not 0 <= value < below:
                raise ConfigError(f'"optimizer.{name}" should be from 0 to below {below:g}, not {value:g}')


class Optimizers:
    """Both optimisers of one model, stepped together; without `muon`, AdamW alone.

    `multiplier` scales every learning rate (the schedule). Names are those of `model.named_parameters()`; what is
    frozen is left alone.
    """

    def __init__(
        self,
        model: nn.Module,
        config: OptimizerConfig,
        *,
        muon_dtype: torch.dtype = torch.float32,
        muon: bool = True,
    ) -> None:
        named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        if not named:
            raise ConfigError("every parameter of the model is frozen: there is nothing to train")
        tables = {id(part.weight) for part in model.modules() if isinstance(part, nn.Embedding)}
        hidden = {n for n, p in named.items() if p.ndim == 2 and id(p) not in tables and not _is_head(n)}
        matrices = {n: named[n] for n in named if muon and n in hidden and not n.endswith(_GATE)}
        pairs = {n: named[n] for n in named if config.bigram_rows and _PAIRS in n}
        chosen: dict[tuple[float, float], list[tuple[str, Tensor]]] = {}
        for name, parameter in named.items():
            if name not in matrices and name not in pairs:
                key = _adam_settings(name, parameter, config, is_table=id(parameter) in tables)
                chosen.setdefault(key, []).append((name, parameter))
        groups = [{"params": chosen[key], "lr": key[0], "weight_decay": key[1]} for key in sorted(chosen)]
        self.named = named
        fused = all(p.device.type in ("cpu", "cuda") for p in named.values())
        betas = (config.adam_beta1, config.adam_beta2)
        self.parts: dict[str, torch.optim.Optimizer] = {}
        if groups:
            self.parts["adamw"] = torch.optim.AdamW(groups, betas=betas, fused=fused)
        if pairs:
            self.parts["rows"] = RowAdam(pairs.values(), lr=config.bigram_lr or config.embedding_lr, betas=betas)
        if matrices:
            self.parts["muon"] = _muon(matrices, config, muon_dtype, _head_dim(model) if config.matrix_by_head else 0)
        self._fused = fused
        self._peaks = [(g, g["lr"]) for o in self.parts.values() for g in o.param_groups]

    def step(self, multiplier: float) -> None:
        """One update with every learning rate at `multiplier` times its peak; gradients are cleared."""
        for group, peak in self._peaks:
            group["lr"] = peak * multiplier
        for optimizer in self.parts.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_tensors(self) -> dict[str, Tensor]:
        """Every state tensor under `<optimizer>.<parameter>.<slot>`."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.named.items():
            for label, optimizer in self.parts.items():
                for slot, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"{label}.{name}.{slot}"] = value
        return tensors

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state_tensors` gave; DataError if a tensor belongs to no parameter of this model."""
        for key, value in tensors.items():
            label, _, rest = key.partition(".")
            name, _, slot = rest.rpartition(".")
            parameter = self.named.get(name)
            optimizer = self.parts.get(label)
            if parameter is None or optimizer is None or (label in _STATE and slot not in _STATE[label]):
                raise DataError(f"the checkpoint holds optimiser state {key!r} that this model does not have")
            # A step counter is on the CPU, but that of a fused AdamW; `to` follows what each would have made.
            there = slot != "step" or (label == "adamw" and self._fused)
            device = parameter.device if there else torch.device("cpu")
            optimizer.state[parameter][slot] = value.to(device, copy=True)


def _muon(matrices: Mapping[str, Tensor], config: OptimizerConfig, dtype: torch.dtype, head: int) -> Muon:
    return Muon(
        matrices.items(),
        lr=config.matrix_lr,
        momentum=config.matrix_momentum,
        momentum_warmup=config.matrix_momentum_warmup_steps,
        weight_decay=config.matrix_weight_decay,
        cautious=config.matrix_cautious_decay,
        second_beta=config.matrix_second_beta,
        blocks=(head, config.matrix_feed_block),
        whole_every=config.matrix_whole_every,
        polynomial=config.matrix_polynomial,
        iterations=config.matrix_iterations,
        compute_dtype=dtype,
    )


def _head_dim(model: nn.Module) -> int:
    """The width of every attention's heads; 0 if they are of several."""
    found = {part.head_dim for part in model.modules() if isinstance(part, Attention)}
    return found.pop() if len(found) == 1 else 0


def _is_head(name: str) -> bool:
    return bool(_HEADS.intersection(name.split(".")))


def _adam_settings(name: str, parameter: Tensor, config: OptimizerConfig, *, is_table: bool) -> tuple[float, float]:
    """(learning rate, weight decay): no decay for tables, norms and biases."""
    if is_table:
        own = config.bigram_lr if _PAIRS in name else config.value_embedding_lr if _VALUES in name else 0.0
        return own or config.embedding_lr, 0.0
    if parameter.ndim < 2 or name.endswith(_GATE):
        return (_LAMBDAS in name and config.lambda_lr) or config.scalar_lr, 0.0
    return config.head_lr, config.adam_weight_decay
