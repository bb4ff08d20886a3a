"""Arms of a comparison, each from samples to a frozen answerer."""

from bloomery.adapt.comparison.arms.registry import arm_named

__all__ = ["arm_named"]
