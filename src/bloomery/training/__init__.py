"""Training: the causal objective, the optimisers, the plan before and the loop that survives being killed."""

from bloomery.training.planner import Plan, plan
from bloomery.training.pretrain import PretrainConfig, pretrain, pretrain_inputs

__all__ = ["Plan", "PretrainConfig", "plan", "pretrain", "pretrain_inputs"]
