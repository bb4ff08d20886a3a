"""Sweep: a recipe's dials tried out, hopeless trials stopped, every joule counted."""

from bloomery.training.sweep.config import SweepConfig
from bloomery.training.sweep.report import SweepReport
from bloomery.training.sweep.study import check_packages, sweep

__all__ = ["SweepConfig", "SweepReport", "check_packages", "sweep"]
