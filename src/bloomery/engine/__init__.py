"""The engine: requests in, tokens with log-probabilities, timings and joules out.

Names are loaded when they are first used: a command that writes a sentence waits for no exchange of files.
"""

from typing import TYPE_CHECKING

from bloomery.core.lazily import lazily

if TYPE_CHECKING:
    from bloomery.engine.beams import Beam as Beam
    from bloomery.engine.classifier import Classifier as Classifier
    from bloomery.engine.constraint_spec import (
        ConstraintSpec as ConstraintSpec,
    )
    from bloomery.engine.constraint_spec import (
        ToolChoice as ToolChoice,
    )
    from bloomery.engine.constraint_spec import (
        ToolFunction as ToolFunction,
    )
    from bloomery.engine.engine import EngineConfig as EngineConfig
    from bloomery.engine.exchange import export_model as export_model
    from bloomery.engine.exchange import import_model as import_model
    from bloomery.engine.gguf_file import export_gguf as export_gguf
    from bloomery.engine.glass_box import GlassBox as GlassBox
    from bloomery.engine.glass_box_open import open_glass_box as open_glass_box
    from bloomery.engine.image_encoder import ImageEncoder as ImageEncoder
    from bloomery.engine.image_text import ImageTextModel as ImageTextModel
    from bloomery.engine.labelling import Candidate as Candidate
    from bloomery.engine.labelling import TaggedWord as TaggedWord
    from bloomery.engine.language_model import LanguageModel as LanguageModel
    from bloomery.engine.language_model import NextToken as NextToken
    from bloomery.engine.loading import (
        load as load,
    )
    from bloomery.engine.loading import (
        load_language_model as load_language_model,
    )
    from bloomery.engine.loading import (
        load_text_encoder as load_text_encoder,
    )
    from bloomery.engine.params import SamplingParams as SamplingParams
    from bloomery.engine.results import (
        Delta as Delta,
    )
    from bloomery.engine.results import (
        GenerationResult as GenerationResult,
    )
    from bloomery.engine.results import (
        PromptLogprob as PromptLogprob,
    )
    from bloomery.engine.results import (
        Timings as Timings,
    )
    from bloomery.engine.results import (
        TokenLogprob as TokenLogprob,
    )
    from bloomery.engine.sequence_model import SequenceModel as SequenceModel
    from bloomery.engine.sequence_model import Translation as Translation
    from bloomery.engine.text_encoder import TextEncoder as TextEncoder
    from bloomery.engine.vision_language_model import VisionLanguageModel as VisionLanguageModel

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
