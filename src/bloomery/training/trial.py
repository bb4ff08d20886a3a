"""Trial: steps that are taken back, with everything that they changed.

This module does not know what the steps are for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from bloomery.training.objective import Objective


@contextlib.contextmanager
def taken_back(objective: Objective, device: torch.device) -> Iterator[None]:
    """Inside, the model may be trained; weights, data position and random numbers are as before afterwards."""
    frozen = {name for name, value in objective.model.named_parameters() if not value.requires_grad}
    weights = {name: value.clone() for name, value in objective.model.state_dict().items() if name not in frozen}
    place, random = objective.state_dict(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    try:
        yield
    finally:
        objective.model.load_state_dict(weights, strict=not frozen)
        objective.model.zero_grad(set_to_none=True)
        objective.load_state_dict(place)
        torch.set_rng_state(random)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, device)
