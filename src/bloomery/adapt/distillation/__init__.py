"""Distillation: a student learns from a teacher's distributions or from its texts."""

from bloomery.adapt.distillation.config import DistilConfig
from bloomery.adapt.distillation.distil import distil

__all__ = ["DistilConfig", "distil"]
