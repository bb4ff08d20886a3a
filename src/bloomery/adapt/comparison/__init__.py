"""Prompt, retrieve, fine-tune, or a classic model: answered with numbers, on a test that is opened once."""

from bloomery.adapt.comparison.compare import compare
from bloomery.adapt.comparison.rebuild import Rebuilt, rebuilt
from bloomery.adapt.comparison.simulation import Simulation, simulated
from bloomery.adapt.comparison.task import ARMS, Task, TaskConfig, read_task
from bloomery.adapt.comparison.testing import read_comparison

__all__ = [
    "ARMS",
    "Rebuilt",
    "Simulation",
    "Task",
    "TaskConfig",
    "compare",
    "read_comparison",
    "read_task",
    "rebuilt",
    "simulated",
]
