"""Extra heads for a model that stays as it is: they guess, it checks, texts come sooner."""

from bloomery.adapt.heads.config import HeadsConfig
from bloomery.adapt.heads.train_heads import train_heads

__all__ = ["HeadsConfig", "train_heads"]
