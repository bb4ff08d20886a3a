"""Prompts: versioned templates, the ways in which they are put to a model, and how better ones are searched for."""

from bloomery.adapt.prompts.answer_rule import AnswerRule
from bloomery.adapt.prompts.strategies import KINDS, StrategyConfig, open_strategy
from bloomery.adapt.prompts.template import ExampleSettings, PromptTemplate, Shot, library_prompts, read_prompt

__all__ = [
    "KINDS",
    "AnswerRule",
    "ExampleSettings",
    "PromptTemplate",
    "Shot",
    "StrategyConfig",
    "library_prompts",
    "open_strategy",
    "read_prompt",
]
