"""The engine: requests in, tokens with log-probabilities, timings and joules out."""

from bloomery.engine.exchange import export_model, import_model
from bloomery.engine.gguf_file import export_gguf
from bloomery.engine.language_model import LanguageModel, NextToken
from bloomery.engine.loading import load
from bloomery.engine.params import SamplingParams
from bloomery.engine.results import Delta, GenerationResult, PromptLogprob, Timings, TokenLogprob

__all__ = [
    "Delta",
    "GenerationResult",
    "LanguageModel",
    "NextToken",
    "PromptLogprob",
    "SamplingParams",
    "Timings",
    "TokenLogprob",
    "export_gguf",
    "export_model",
    "import_model",
    "load",
]
