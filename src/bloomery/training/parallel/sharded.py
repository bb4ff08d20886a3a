"""Sharded weights: each rank keeps a part of every tensor; PyTorch's FSDP2 collects a layer when it is computed.

Tensor ranks (see `tensor_parallel`) divide each layer's heads and feed-forward; they compute the same rows. Where both
are used, rank r is number r // tensor_ranks of the batch and r % tensor_ranks of the layer. To a checkpoint each rank
writes its own part; the model that comes out is whole, collected by rank 0 a tensor at a time: it needs the memory for
it on its CPU. This module does not know objectives' losses, nor the loop.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from bloomery.models.block import Block
from bloomery.training.objective import Batch, Objective, Validation, placed, precision_context
from bloomery.training.optimizers import Optimizers
from bloomery.training.parallel.data_parallel import LossModule, Several
from bloomery.training.parallel.matrices import SharedMatrices, full, piece_of
from bloomery.training.parallel.ranks import parts_of
from bloomery.training.parallel.tensor_parallel import split_layers
from bloomery.training.parallel.world import World
from bloomery.training.pieces import Piece
from bloomery.training.room import local

M = TypeVar("M", bound=nn.Module)
_CLIP_EPSILON = 1e-6
"""Added to the norm before dividing by it, as `torch.nn.utils.clip_grad_norm_` does."""


class Sharded(Several):
    """Ranks that have parts of the model: of `size` ranks, groups of `tensor_ranks` compute each layer together."""

    def __init__(self, world: World, seed: int, device: torch.device, *, tensor_ranks: int = 1) -> None:
        super().__init__(world, seed)
        self.batch_ranks, self.batch_rank = world.size // tensor_ranks, world.rank // tensor_ranks
        self._mesh = init_device_mesh(device.type, (self.batch_ranks, tensor_ranks), mesh_dim_names=("batch", "tensor"))
        self.tensor_ranks = tensor_ranks
        if min(self.batch_ranks, tensor_ranks) > 1:
            # A matrix that is divided twice is collected in two exchanges, and each time PyTorch would say so.
            logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
        self._partial: list[nn.Parameter] = []

    def attach(self, objective: Objective) -> None:
        super().attach(objective)
        self._loss = LossModule(objective)
        if self.tensor_ranks > 1:
            self._partial_names = split_layers(objective.model, self._mesh["tensor"])
        if self.batch_ranks > 1:
            blocks = [module for module in objective.model.modules() if isinstance(module, Block)]
            for module in (*blocks, self._loss):
                fully_shard(module, mesh=self._mesh["batch"])
            for module in self._loss.modules():
                if isinstance(module, FSDPModule):
                    # Losses are divided by the weight of the whole batch already; gloo knows sums only.
                    module.set_gradient_divide_factor(1.0)
                    module.set_force_sum_reduction_for_comms(True)
            register_fsdp_forward_method(self._loss, "validate")
        if self.tensor_ranks > 1:
            self._partial = [p for n, p in objective.model.named_parameters() if n in self._partial_names]

    def compiled(self, model: nn.Module, method: Callable[..., Any]) -> Callable[..., Any]:
        """Layer by layer, for what collects a layer's weights cannot be compiled."""
        self.allow_compiling()
        for module in model.modules():
            if isinstance(module, Block):
                module.compile(dynamic=False)
        return method

    def share(self, optimizers: Optimizers) -> None:
        super().share(optimizers)
        if self.tensor_ranks > 1:  # parameters on several meshes, which the fused kernels do not take together
            for group in optimizers.parts["adamw"].param_groups if "adamw" in optimizers.parts else ():
                group["fused"], group["foreach"] = False, False

    def accumulate(
        self, objective: Objective, batch: Batch, micro_rows: int, device: torch.device, precision: str
    ) -> Tensor:
        parts = parts_of(batch, self.batch_rank, self.batch_ranks, micro_rows)
        total = torch.zeros((), device=device)
        for number, part in enumerate(parts, 1):
            inputs = placed(objective, part, device)
            with precision_context(device, precision):
                loss = self._loss(inputs) / max(1, batch.weight)
            total += loss.detach()
            if number == len(parts):
                self.computed()
            loss.backward()
        for parameter in self._partial:
            if parameter.grad is not None:
                dist.all_reduce(local(parameter.grad), group=self._mesh.get_group("tensor"))
        dist.all_reduce(total, group=self._mesh.get_group("batch"))
        return total

    @torch.no_grad()
    def clip(self, parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
        gradients = [p.grad for p in parameters if p.grad is not None]
        squares = [local(g).square().sum() * self._weight(g) for g in gradients]
        total = torch.stack(squares).sum()
        dist.all_reduce(total)
        norm = total.sqrt()
        if max_norm:
            scale = torch.clamp(max_norm / (norm + _CLIP_EPSILON), max=1.0)
            for gradient in gradients:
                local(gradient).mul_(scale)
        return norm

    def _weight(self, tensor: Tensor) -> float:
        """One over the number of ranks that hold the same part of a tensor."""
        if not isinstance(tensor, DTensor):
            return 1 / self.size
        mesh = tensor.device_mesh
        # Not only Shard: what is divided twice along one dimension is placed by a class of its own.
        return (
            math.prod(mesh.size(n) for n, placed in enumerate(tensor.placements) if not placed.is_replicate())
            / self.size
        )

    def validate(self, objective: Objective, batches: int | None, device: torch.device, precision: str) -> Validation:
        return self._loss.validate(batches, device, precision)

    def weights(self, optimizers: Optimizers) -> Mapping[str, Tensor | Piece]:
        pieces = ((name, piece_of(parameter)) for name, parameter in optimizers.named.items())
        return {name: piece for name, piece in pieces if piece is not None}

    def whole(self, model: M, make: Callable[[], M]) -> M:
        tensors = self._collected(model.state_dict())
        if not self.leads:
            return model
        made = make()
        made.load_state_dict(tensors)
        return made

    def take_weights(self, model: nn.Module, tensors: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
        own = model.state_dict()
        for name in own:
            if name in tensors:
                SharedMatrices.put(own[name], tensors[name].to(own[name].device))
        if self._matrices is not None:
            self._matrices.renew()
        return [name for name in own if name not in tensors], [name for name in tensors if name not in own]

    def _collected(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """On rank 0 the whole tensors, on its CPU; elsewhere none."""
        found: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            whole = full(tensor.detach())
            if self.leads:
                found[name] = whole.cpu()
        return found
