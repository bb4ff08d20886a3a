"""Registry: the arms by their names in a task file. This module does not know what they do."""

from __future__ import annotations

from bloomery.adapt.comparison.arm import Arm
from bloomery.adapt.comparison.arms.classic import ClassicArm
from bloomery.adapt.comparison.arms.lora import LoraArm
from bloomery.adapt.comparison.arms.majority import MajorityArm
from bloomery.adapt.comparison.arms.prompted import PromptedArm
from bloomery.adapt.comparison.arms.reading import ReadingArm
from bloomery.adapt.comparison.task import ARMS
from bloomery.core.errors import ConfigError, nearest

_ARMS: dict[str, Arm] = {
    "majority": MajorityArm(),
    "classic": ClassicArm(),
    "zero-shot": PromptedArm("zero-shot"),
    "few-shot": PromptedArm("few-shot"),
    "chain-of-thought": PromptedArm("chain-of-thought"),
    "self-consistency": PromptedArm("self-consistency"),
    "rag": ReadingArm("rag"),
    "long-context": ReadingArm("long-context"),
    "lora": LoraArm("lora"),
    "rag-lora": LoraArm("rag-lora"),
}


def arm_named(name: str) -> Arm:
    """ConfigError for an unknown name."""
    if name not in _ARMS:
        raise ConfigError(f'unknown arm "{name}"', hint=nearest(name, ARMS))
    return _ARMS[name]
