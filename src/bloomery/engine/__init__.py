"""The engine: requests in, tokens with log-probabilities, timings and joules out.

Names are loaded when they are first used: a command that writes a sentence waits for no exchange of files.
"""

from typing import TYPE_CHECKING

from bloomery.core.lazily import lazily

if TYPE_CHECKING:
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

__getattr__ = lazily(
    __name__,
    {
        "beams": "Beam",
        "classifier": "Classifier",
        "constraint_spec": "ConstraintSpec ToolChoice ToolFunction",
        "engine": "EngineConfig",
        "exchange": "export_model import_model",
        "gguf_file": "export_gguf",
        "glass_box": "GlassBox",
        "glass_box_open": "open_glass_box",
        "image_encoder": "ImageEncoder",
        "image_text": "ImageTextModel",
        "labelling": "Candidate TaggedWord",
        "language_model": "LanguageModel NextToken",
        "loading": "load load_language_model load_text_encoder",
        "params": "SamplingParams",
        "results": "Delta GenerationResult PromptLogprob Timings TokenLogprob",
        "sequence_model": "SequenceModel Translation",
        "text_encoder": "TextEncoder",
        "vision_language_model": "VisionLanguageModel",
    },
)

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
