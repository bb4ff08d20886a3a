"""Training: the causal objective, the optimisers, the plan before and the loop that survives being killed."""

from bloomery.models import attention
from bloomery.models.native.attention_training import attention_in_training
from bloomery.training.parallel.parallel_config import ParallelConfig
from bloomery.training.planning.plan import Budget, Plan
from bloomery.training.planning.planner import plan
from bloomery.training.pretrain import PretrainConfig, pretrain, pretrain_inputs
from bloomery.training.train import prepare, reads_text, train, train_inputs
from bloomery.training.train_config import TrainConfig

__all__ = [
    "Budget",
    "ParallelConfig",
    "Plan",
    "PretrainConfig",
    "TrainConfig",
    "plan",
    "prepare",
    "pretrain",
    "pretrain_inputs",
    "reads_text",
    "train",
    "train_inputs",
]

attention.in_training = attention_in_training
