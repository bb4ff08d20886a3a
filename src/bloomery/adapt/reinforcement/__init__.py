"""Reinforcement with verifiable rewards: GRPO and its kin on our own engine."""

from bloomery.adapt.reinforcement.config import ReinforceConfig
from bloomery.adapt.reinforcement.reinforce import reinforce
from bloomery.adapt.reinforcement.rewards import Reward

__all__ = ["ReinforceConfig", "Reward", "reinforce"]
