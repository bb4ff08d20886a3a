"""load: a model from a folder, one of our artifacts, or the Hugging Face hub.

Artifacts are verified byte for byte. Only safetensors, JSON, Jinja and vocabulary files are ever read.
This module does not know where a model's files are (see `finding`), nor how weights are read (the floor `models`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError, DataError, DeviceError, nearest
from bloomery.core.workspace import Workspace
from bloomery.engine.finding import find_model
from bloomery.engine.language_model import LanguageModel
from bloomery.engine.packed_weights import load_decoder, pack_loaded, refuse_weights
from bloomery.models.kinds import ModelKind, kind_of
from bloomery.models.weights import read_json
from bloomery.tokenizer import Tokenizer, TokenizerPair

if TYPE_CHECKING:  # kinds of models are loaded when one of them is asked for
    from bloomery.engine.classifier import Classifier
    from bloomery.engine.image_encoder import ImageEncoder
    from bloomery.engine.image_text import ImageTextModel
    from bloomery.engine.sequence_model import SequenceModel
    from bloomery.engine.text_encoder import TextEncoder
    from bloomery.engine.vision_language_model import VisionLanguageModel

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

LABELS = "labels.json"
"""The names of a classifier's classes, where its config.json has no place for them."""
_MAX_LABEL_BYTES = 16 * 1024 * 1024


def load(
    reference: str | Path | Artifact,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    weights: str | None = None,
    workspace: Workspace | str | Path | None = None,
) -> LanguageModel | TextEncoder | ImageTextModel | ImageEncoder | SequenceModel | Classifier:
    """A model by artifact, folder, artifact name or id, or hub id ("org/name"): of the kind that its files say.

    `device` is "cpu", "cuda", "cuda:1", ...; None takes CUDA if there is any. `dtype` None keeps the checkpoint's
    on a GPU and takes float32 on the CPU, where half precision is slower. `weights` packs the linear layers of
    language models, text encoders and encoder-decoders for speed (see `packed_weights`): None changes nothing but in
    a folder that is quantised itself, "auto" takes the fastest format within a stated loss. Raises ArtifactError
    (nothing there, or damaged), DataError (unreadable weights), DeviceError, ConfigError (a family that is not
    supported).
    """
    return _open(*find_model(reference, workspace), device, dtype, weights)


def load_language_model(
    reference: str | Path | Artifact,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    weights: str | None = None,
    workspace: Workspace | str | Path | None = None,
) -> LanguageModel:
    """A causal language model; ConfigError if the reference is another kind. Otherwise as `load`."""
    folder, name = find_model(reference, workspace)
    kind = kind_of_folder(folder)
    if kind.artifact != "model":
        what, hint = _OTHERS[kind.artifact]
        raise ConfigError(f"{name} is {what}", hint=hint)
    return cast(LanguageModel, _open(folder, name, device, dtype, weights))


def load_text_encoder(
    reference: str | Path | Artifact,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    weights: str | None = None,
    workspace: Workspace | str | Path | None = None,
) -> TextEncoder:
    """An encoder (BERT, RoBERTa, ModernBERT, or a sentence-transformers folder of one); otherwise as `load`."""
    from bloomery.models.encoder import load_encoder

    folder, name = find_model(reference, workspace)
    place = choose_device(device)
    encoder = load_encoder(folder, dtype=as_dtype(dtype) or _usual(place), device=place)
    pack_loaded(encoder, weights)
    return _text_encoder(encoder, folder, name)


def kind_of_folder(folder: Path) -> ModelKind:
    """The kind of model that a folder's config.json describes."""
    return kind_of(read_json(folder / "config.json"))


_SILENT = "which writes no text"
_OTHERS = {
    "encoder": (f"an encoder, {_SILENT}", "in Python: bl.load(...)"),
    "image-text": (f"an encoder of images and texts, {_SILENT}", "in Python: bl.load(...)"),
    "image-encoder": (f"an encoder of images, {_SILENT}", "in Python: bl.load(...)"),
    "classifier": (f"a classifier, {_SILENT}", "in Python: bl.load(...)"),
    "seq2seq": ("a model that writes texts for texts", "bloomery translate, or bl.load(...)"),
}


_PACKED = frozenset({"encoder", "seq2seq", "vision-language"})
"""Kinds whose linear layers may be packed, decoders aside."""


def _open(
    folder: Path,
    name: str,
    device: str | torch.device | None,
    dtype: str | torch.dtype | None,
    weights: str | None = None,
) -> LanguageModel | TextEncoder | ImageTextModel | ImageEncoder | SequenceModel | Classifier:
    place = choose_device(device)
    kind = kind_of_folder(folder)
    as_read = as_dtype(dtype) or _usual(place)
    if kind.name == "decoder":
        return _OPENED[kind.name](load_decoder(folder, place, as_read, weights), folder, name)
    if kind.name not in _PACKED:
        refuse_weights(weights, name)
    model = kind.load(folder, dtype=as_read, device=place)
    if kind.name in _PACKED:
        pack_loaded(model.language_model if kind.name == "vision-language" else model, weights)
    return _OPENED[kind.name](model, folder, name)


def _text_encoder(model: Any, folder: Path, name: str) -> TextEncoder:
    from bloomery.engine.text_encoder import TextEncoder
    from bloomery.models.pooling import Pooling

    return TextEncoder(
        model,
        Tokenizer.load(folder),
        name=name,
        pooling=Pooling.from_folder(folder),
        shorter_dimensions=_shorter_dimensions(folder, model.config.hidden_size),
    )


def _image_text(model: Any, folder: Path, name: str) -> ImageTextModel:
    from bloomery.engine.image_text import ImageTextModel
    from bloomery.models.image_processor import ImageProcessor

    return ImageTextModel(model, Tokenizer.load(folder), ImageProcessor.from_folder(folder), name=name)


def _image_encoder(model: Any, folder: Path, name: str) -> ImageEncoder:
    from bloomery.engine.image_encoder import ImageEncoder
    from bloomery.models.image_processor import ImageProcessor

    return ImageEncoder(model, ImageProcessor.from_folder(folder), name=name)


def _sequence_model(model: Any, folder: Path, name: str) -> SequenceModel:
    from bloomery.engine.sequence_model import SequenceModel

    tokenizers = TokenizerPair.load(folder)
    return SequenceModel(model, tokenizers.source, name=name, target_tokenizer=tokenizers.target)


def _language_model(model: Any, folder: Path, name: str) -> LanguageModel:
    return LanguageModel(model, Tokenizer.load(folder), name=name)


def _vision_language(model: Any, folder: Path, name: str) -> VisionLanguageModel:
    from bloomery.engine.vision_language_model import VisionLanguageModel
    from bloomery.models.image_processor import ImageProcessor

    return VisionLanguageModel(model, Tokenizer.load(folder), ImageProcessor.from_folder(folder), name=name)


def _classifier(model: Any, folder: Path, name: str) -> Classifier:
    from bloomery.engine.classifier import Classifier

    return Classifier(model, Tokenizer.load(folder), name=name, labels=_labels(model, folder))


def _image_classifier(model: Any, folder: Path, name: str) -> Classifier:
    from bloomery.engine.classifier import Classifier
    from bloomery.models.image_processor import ImageProcessor

    return Classifier(model, ImageProcessor.from_folder(folder), name=name, labels=_labels(model, folder))


def _labels(model: Any, folder: Path) -> list[str]:
    return read_label_names(folder) or list(getattr(model, "labels", ()))


_OPENED: dict[str, Callable[[Any, Path, str], Any]] = {
    "encoder": _text_encoder,
    "image-text": _image_text,
    "image-encoder": _image_encoder,
    "seq2seq": _sequence_model,
    "recurrent": _sequence_model,
    "vision-language": _vision_language,
    "image-classifier": _image_classifier,
    "text-classifier": _classifier,
    "decoder-classifier": _classifier,
    "decoder": _language_model,
}
"""What is served of each kind of `models.kinds`."""


def read_label_names(folder: Path) -> list[str]:
    """The names in a folder's labels.json, or none; DataError where it is something else."""
    path = folder / LABELS
    if not path.is_file():
        return []
    try:
        names = json.loads(path.read_bytes()[:_MAX_LABEL_BYTES])
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path} should hold a list of names")
    return names


def _shorter_dimensions(folder: Path, hidden_size: int) -> list[int]:
    """To what lengths a config.json says that vectors may be cut, in the two keys that vLLM reads."""
    config = read_json(folder / "config.json")
    named = config.get("matryoshka_dimensions")
    if isinstance(named, list):
        return [n for n in named if isinstance(n, int) and 0 < n <= hidden_size]
    return list(range(1, hidden_size + 1)) if config.get("is_matryoshka") is True else []


def _usual(place: torch.device) -> torch.dtype | None:
    return torch.float32 if place.type == "cpu" else None


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or CUDA if there is any, else the CPU. DeviceError if it is not there."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise DeviceError(f"{str(device)!r} is not a device", hint='use "cpu" or "cuda"') from None
    if chosen.type == "cpu":
        return chosen
    if chosen.type == "cuda" and (chosen.index or 0) < torch.cuda.device_count():
        return chosen
    raise DeviceError(f"this machine has no device {str(device)!r}", hint='use device="cpu"')


def as_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """A torch.dtype by its name; ConfigError for one that weights cannot have."""
    if dtype is None or isinstance(dtype, torch.dtype):
        if dtype is not None and dtype not in _DTYPES.values():
            raise ConfigError(f"a model cannot have dtype {dtype}", hint="known: " + ", ".join(_DTYPES))
        return dtype
    if dtype not in _DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}", hint=nearest(dtype, _DTYPES))
    return _DTYPES[dtype]
