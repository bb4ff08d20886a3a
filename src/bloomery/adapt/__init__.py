"""Adapt: a model made fit for a task, by prompts, retrieval, fine-tuning or a classic model instead, and compared.

The package can be called: `bl.adapt(model, data, method="lora")` is the stage that tunes.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Stage(ModuleType):
    """The floor and its most usual stage have one name."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        methods = import_module("bloomery.adapt.methods")
        if options.get("method") in methods.METHODS:
            return methods.run_method(options.pop("method"), *args, **options)
        return import_module("bloomery.adapt.tuning.adapt").adapt(*args, **options)


sys.modules[__name__].__class__ = _Stage
