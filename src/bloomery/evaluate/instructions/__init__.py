"""Instructions that a program can check: IFEval's, as a scorer."""

from bloomery.evaluate.instructions.checks import CHECKS
from bloomery.evaluate.instructions.scorer import Instructions

__all__ = ["CHECKS", "Instructions"]
