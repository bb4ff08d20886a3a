"""load: a model from a folder, one of our artifacts, or the Hugging Face hub.

Artifacts are verified byte for byte. Only safetensors, JSON, Jinja and vocabulary files are ever read or downloaded.
This module does not know how weights are read (see the floor `models`).
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import torch

from bloomery.core.artifact import MANIFEST, Artifact
from bloomery.core.errors import ArtifactError, ConfigError, DataError, DeviceError, MissingExtraError, nearest
from bloomery.core.workspace import DEFAULT_HOME, HOME_VARIABLE, Workspace, as_workspace
from bloomery.engine.classifier import Classifier
from bloomery.engine.image_encoder import ImageEncoder
from bloomery.engine.image_text import ImageTextModel
from bloomery.engine.language_model import LanguageModel
from bloomery.engine.sequence_model import SequenceModel
from bloomery.engine.text_encoder import TextEncoder
from bloomery.engine.vision_language_model import VisionLanguageModel
from bloomery.models import load_pretrained
from bloomery.models.classifiers import CLASSIFIER_TYPES, ConvImageClassifier, load_classifier
from bloomery.models.clip import load_clip
from bloomery.models.clip_config import CLIP_TYPES
from bloomery.models.decoder_classifier import SUFFIX, load_decoder_classifier
from bloomery.models.encoder import load_encoder
from bloomery.models.encoder_families import ENCODER_FAMILIES
from bloomery.models.image_processor import ImageProcessor
from bloomery.models.pooling import Pooling
from bloomery.models.recurrent import MODEL_TYPE as RECURRENT
from bloomery.models.recurrent import load_recurrent
from bloomery.models.seq2seq import load_seq2seq
from bloomery.models.seq2seq_config import ARCHITECTURES
from bloomery.models.vision import load_vision
from bloomery.models.vision_families import VISION_FAMILIES
from bloomery.models.vision_language import load_vision_language
from bloomery.models.vision_language_config import MODEL_TYPE as LLAVA
from bloomery.models.weights import read_json
from bloomery.tokenizer import Tokenizer

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "vocab.txt", "merges.txt", "*.model"]

_MAX_LABEL_BYTES = 16 * 1024 * 1024


def load(
    reference: str | Path | Artifact,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    workspace: Workspace | str | Path | None = None,
) -> LanguageModel | TextEncoder | ImageTextModel | ImageEncoder | SequenceModel | Classifier:
    """A model by artifact, folder, artifact name or id, or hub id ("org/name"): of the kind that its files say.

    `device` is "cpu", "cuda", "cuda:1", ...; None takes CUDA if there is any. `dtype` None keeps the checkpoint's
    on a GPU and takes float32 on the CPU, where half precision is slower. Raises ArtifactError (nothing there,
    or damaged), DataError (unreadable weights), DeviceError, ConfigError (a family that is not supported).
    """
    place = choose_device(device)
    folder, name = find_model(reference, workspace)
    kind = str(read_json(folder / "config.json").get("model_type"))
    if kind in ENCODER_FAMILIES:
        return _text_encoder(folder, name, place, dtype)
    if kind in CLIP_TYPES:
        model = load_clip(folder, dtype=as_dtype(dtype) or _usual(place), device=place)
        return ImageTextModel(model, Tokenizer.load(folder), ImageProcessor.from_folder(folder), name=name)
    if kind in VISION_FAMILIES:
        encoder = load_vision(folder, dtype=as_dtype(dtype) or _usual(place), device=place)
        return ImageEncoder(encoder, ImageProcessor.from_folder(folder), name=name)
    if kind in ARCHITECTURES or kind == RECURRENT:
        read = load_recurrent if kind == RECURRENT else load_seq2seq
        seq2seq = read(folder, dtype=as_dtype(dtype) or _usual(place), device=place)
        return SequenceModel(seq2seq, Tokenizer.load(folder), name=name)
    if is_classifier(folder):
        return _classifier(folder, name, place, as_dtype(dtype) or _usual(place))
    return _language_model(folder, name, place, dtype)


def load_language_model(
    reference: str | Path | Artifact,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    workspace: Workspace | str | Path | None = None,
) -> LanguageModel:
    """A causal language model; ConfigError if the reference is another kind. Otherwise as `load`."""
    place = choose_device(device)
    return _language_model(*find_model(reference, workspace), place, dtype)


def load_text_encoder(
    reference: str | Path | Artifact,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    workspace: Workspace | str | Path | None = None,
) -> TextEncoder:
    """An encoder (BERT, RoBERTa, ModernBERT, or a sentence-transformers folder of one); otherwise as `load`."""
    place = choose_device(device)
    return _text_encoder(*find_model(reference, workspace), place, dtype)


def _language_model(folder: Path, name: str, place: torch.device, dtype: str | torch.dtype | None) -> LanguageModel:
    kind = str(read_json(folder / "config.json").get("model_type"))
    if kind == LLAVA:
        model = load_vision_language(folder, dtype=as_dtype(dtype) or _usual(place), device=place)
        return VisionLanguageModel(model, Tokenizer.load(folder), ImageProcessor.from_folder(folder), name=name)
    if kind in ENCODER_FAMILIES or kind in CLIP_TYPES or kind in VISION_FAMILIES:
        raise ConfigError(f"{name} is an encoder ({kind}), which writes no text", hint="in Python: bl.load(...)")
    if kind in ARCHITECTURES or kind == RECURRENT:
        raise ConfigError(f"{name} ({kind}) writes texts for texts", hint="bloomery translate, or bl.load(...)")
    if is_classifier(folder):
        raise ConfigError(f"{name} is a classifier, which writes no text", hint="in Python: bl.load(...)")
    decoder = load_pretrained(folder, dtype=as_dtype(dtype) or _usual(place), device=place)
    return LanguageModel(decoder, Tokenizer.load(folder), name=name)


def is_classifier(folder: Path) -> bool:
    """Whether a folder holds a classifier that is no encoder: a small one, or a decoder with a head."""
    document = read_json(folder / "config.json")
    named = document.get("architectures")
    first = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else ""
    return str(document.get("model_type")) in CLASSIFIER_TYPES or first.endswith(SUFFIX)


def _classifier(folder: Path, name: str, place: torch.device, dtype: torch.dtype | None) -> Classifier:
    small = str(read_json(folder / "config.json").get("model_type")) in CLASSIFIER_TYPES
    model = (load_classifier if small else load_decoder_classifier)(folder, dtype=dtype, device=place)
    sees = isinstance(model, ConvImageClassifier)
    reader = ImageProcessor.from_folder(folder) if sees else Tokenizer.load(folder)
    return Classifier(model, reader, name=name, labels=read_label_names(folder))


def read_label_names(folder: Path) -> list[str]:
    """The names in a folder's labels.json, or none; DataError where it is something else."""
    path = folder / "labels.json"
    if not path.is_file():
        return []
    try:
        names = json.loads(path.read_bytes()[:_MAX_LABEL_BYTES])
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path} should hold a list of names")
    return names


def _text_encoder(folder: Path, name: str, place: torch.device, dtype: str | torch.dtype | None) -> TextEncoder:
    encoder = load_encoder(folder, dtype=as_dtype(dtype) or _usual(place), device=place)
    return TextEncoder(
        encoder,
        Tokenizer.load(folder),
        name=name,
        pooling=Pooling.from_folder(folder),
        shorter_dimensions=_shorter_dimensions(folder, encoder.config.hidden_size),
    )


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


def find_model(reference: str | Path | Artifact, workspace: Workspace | str | Path | None) -> tuple[Path, str]:
    """The folder that holds the model's files, and its name."""
    if isinstance(reference, Artifact):
        return _model_folder(reference), reference.name
    path = Path(reference).expanduser()
    if (path / MANIFEST).is_file():
        artifact = Artifact.open(path)
        return _model_folder(artifact), artifact.name
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise DataError(f"{path} holds no model: it has no config.json", hint="give the folder of a model")
        return path, path.resolve().name
    home = _existing_workspace(workspace)
    text = str(reference)
    if home is not None and home.matching(text):
        artifact = home.find(text)
        return _model_folder(artifact), artifact.name
    if isinstance(reference, str) and _HUB_ID.fullmatch(text):
        return _download(text), text
    raise ArtifactError(f"no model {text!r}", hint="give a folder, the name or id of a model artifact, or a hub id")


def _model_folder(artifact: Artifact) -> Path:
    if not (artifact.path / "config.json").is_file():
        raise ArtifactError(f"{artifact.name} is a {artifact.kind}, not a model", hint="bloomery runs lists the models")
    return artifact.path


def _existing_workspace(workspace: Workspace | str | Path | None) -> Workspace | None:
    """The workspace; None if none was given and the default one does not exist: looking must not create it."""
    if workspace is None and not Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).is_dir():
        return None
    return as_workspace(workspace)


def as_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """A torch.dtype by its name; ConfigError for one that weights cannot have."""
    if dtype is None or isinstance(dtype, torch.dtype):
        if dtype is not None and dtype not in _DTYPES.values():
            raise ConfigError(f"a model cannot have dtype {dtype}", hint="known: " + ", ".join(_DTYPES))
        return dtype
    if dtype not in _DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}", hint=nearest(dtype, _DTYPES))
    return _DTYPES[dtype]


def _download(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hub", f"downloading {name}") from None
    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except Exception as error:  # whatever the hub's client or its network stack raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ArtifactError(
            f"no model {name!r} here, and it could not be had from the hub: {reason:.200}",
            hint="check the name and the network, or give a local folder",
        ) from error
