"""Outline: modules with shapes and no values, for weights to be put in.

On PyTorch's meta device, without the first values that modules draw: to draw normal numbers that are nowhere PyTorch
would import its compiler, which takes longer than many a model takes to load. This module does not know models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_DRAWS = (Tensor.normal_, torch.nn.init.normal_)


class _NoDraws(TorchFunctionMode):
    """For this thread: what would fill a tensor on the meta device with normal numbers leaves it."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWS:
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Inside, new modules of this thread have parameters with a shape and a dtype only."""
    with torch.device("meta"), _NoDraws():
        yield
