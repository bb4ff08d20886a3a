"""The engine: requests in, tokens with log-probabilities, timings and joules out."""

from bloomery.engine.beams import Beam
from bloomery.engine.classifier import Classifier
from bloomery.engine.constraint_spec import ConstraintSpec, ToolChoice, ToolFunction
from bloomery.engine.engine import EngineConfig
from bloomery.engine.exchange import export_model, import_model
from bloomery.engine.gguf_file import export_gguf
from bloomery.engine.glass_box import GlassBox
from bloomery.engine.glass_box_open import open_glass_box
from bloomery.engine.image_encoder import ImageEncoder
from bloomery.engine.image_text import ImageTextModel
from bloomery.engine.labelling import Candidate, TaggedWord
from bloomery.engine.language_model import LanguageModel, NextToken
from bloomery.engine.loading import load, load_language_model, load_text_encoder
from bloomery.engine.params import SamplingParams
from bloomery.engine.results import Delta, GenerationResult, PromptLogprob, Timings, TokenLogprob
from bloomery.engine.sequence_model import SequenceModel, Translation
from bloomery.engine.text_encoder import TextEncoder
from bloomery.engine.vision_language_model import VisionLanguageModel

__all__ = [
    "Beam",
    "Candidate",
    "Classifier",
    "ConstraintSpec",
    "Delta",
    "EngineConfig",
    "GenerationResult",
    "GlassBox",
    "ImageEncoder",
    "ImageTextModel",
    "LanguageModel",
    "NextToken",
    "PromptLogprob",
    "SamplingParams",
    "SequenceModel",
    "TaggedWord",
    "TextEncoder",
    "Timings",
    "TokenLogprob",
    "ToolChoice",
    "ToolFunction",
    "Translation",
    "VisionLanguageModel",
    "export_gguf",
    "export_model",
    "import_model",
    "load",
    "load_language_model",
    "load_text_encoder",
    "open_glass_box",
]
