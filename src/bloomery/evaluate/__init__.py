"""Evaluate: how good a model is, honestly: tasks with intervals, bits per byte beside what it has to beat.

The package can be called: `bl.evaluate(model, ["arc_easy"])` is the stage, whether or not the package of the same name
has been imported before.
"""

import sys
from types import ModuleType
from typing import Any

from bloomery.evaluate.bits_per_byte import BitsPerByte, bits_per_byte
from bloomery.evaluate.evaluation import KIND, EvaluateConfig, evaluate, prepare, read_evaluation, read_records
from bloomery.evaluate.measure import MeasureConfig, measure, measure_inputs, read_scores
from bloomery.evaluate.subject import open_subject

__all__ = [
    "KIND",
    "BitsPerByte",
    "EvaluateConfig",
    "MeasureConfig",
    "bits_per_byte",
    "evaluate",
    "measure",
    "measure_inputs",
    "open_subject",
    "prepare",
    "read_evaluation",
    "read_records",
    "read_scores",
]


class _Callable(ModuleType):
    """A module that is also its function of the same name."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return evaluate(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
