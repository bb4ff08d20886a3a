"""Open weights in and out: a published model becomes an artifact, an artifact a folder that others read.

What goes in has been read whole by our own code first; nothing but safetensors, JSON and Jinja is copied. This module
does not know layouts of weights (see the floor `models`) nor GGUF (see `gguf_file`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bloomery.core.artifact import Artifact, fsync, sha256_file, write_durably
from bloomery.core.config import digest
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.engine.loading import as_dtype, find_model
from bloomery.models import load_pretrained, save_pretrained
from bloomery.models.clip import load_clip, save_clip
from bloomery.models.clip_config import CLIP_TYPES
from bloomery.models.compressed import Scheme, scheme_named
from bloomery.models.decoder import Decoder
from bloomery.models.encoder import load_encoder, save_encoder
from bloomery.models.encoder_families import ENCODER_FAMILIES
from bloomery.models.image_processor import ImageProcessor
from bloomery.models.pooling import POOLING_FILES, Pooling
from bloomery.models.pretrained import save_quantized
from bloomery.models.recurrent import MODEL_TYPE as RECURRENT
from bloomery.models.recurrent import RecurrentConfig, load_recurrent, save_recurrent
from bloomery.models.seq2seq import load_seq2seq, save_seq2seq
from bloomery.models.seq2seq_config import ARCHITECTURES
from bloomery.models.vision import load_vision, save_vision
from bloomery.models.vision_families import VISION_FAMILIES
from bloomery.models.vision_language import load_vision_language, save_vision_language
from bloomery.models.vision_language_config import MODEL_TYPE as LLAVA
from bloomery.models.weights import as_json, read_json
from bloomery.tokenizer import Tokenizer

STAGE = "import"
PROCESSOR = "processor_config.json"
"""How transformers puts images and text together."""
_VERSION = 1


def import_model(
    reference: str | Path,
    *,
    dtype: str | torch.dtype | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """A local Hugging Face folder or a hub id as an artifact in our ledger: of kind "model" if it writes text, else
    "encoder", "image-text", "image-encoder" or "seq2seq".

    `dtype` None keeps the checkpoint's. Metrics: model_type, parameters, dtype, source; context_length and vocab_size
    of what reads text, image_size (height and width) of what reads images.
    Raises DataError for weights that are damaged or do not fit, ConfigError for a family or key that is not
    supported, ArtifactError where there is no such model.
    """
    workspace, kind = as_workspace(workspace), as_dtype(dtype)
    folder, name = find_model(reference, workspace)
    kinds = (".safetensors", ".json", ".jinja", ".model", ".txt")
    sources = sorted(path for path in folder.iterdir() if path.suffix in kinds)
    inputs = StageInputs(
        stage=STAGE,
        config={"dtype": str(kind).removeprefix("torch.") if kind else None},
        fingerprint=digest([[path.name, sha256_file(path)] for path in sources]),
        version=_VERSION,
    )
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    from bloomery.energy import open_meter

    with Run(workspace, inputs, meter=open_meter()) as run:
        with run.phase("read"):
            read = _Published(folder, kind)
        if read.tokenizer is not None and read.tokenizer.vocab_size > read.vocab_size:
            run.note(f"the tokenizer has {read.tokenizer.vocab_size:,} ids, the model reads {read.vocab_size:,} only")
        with run.phase("write"):
            made = run.new_folder()
            read.write(made)
        return run.publish(made, kind=read.kind.artifact, metrics={**read.metrics(), "source": name})


def export_model(
    reference: str | Path | Artifact,
    folder: str | Path,
    *,
    dtype: str | torch.dtype | None = None,
    quantize: str | None = None,
    group_size: int = 32,
    workspace: Workspace | str | Path | None = None,
) -> Path:
    """Write a model as a Hugging Face folder that transformers, vLLM and llama.cpp's converter read.

    `dtype` None keeps its own. `quantize` "int8" or "int4" rounds the linear layers of a decoder to integers, one
    scale for each output channel or for `group_size` inputs (see `models.compressed`; vLLM reads it, transformers
    with the package compressed-tensors); "float16" is that dtype. The folder must be new or empty: it appears whole
    or not at all. Raises DataError if it is neither, or has no place; ConfigError for what cannot be quantised.
    """
    if quantize == "float16":
        dtype, quantize = quantize, None
    scheme = None if quantize is None else scheme_named(quantize, group_size)
    target, kind = Path(folder).expanduser().absolute(), as_dtype(dtype)
    source, _ = find_model(reference, workspace)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} is there already", hint="export to a new or an empty folder")
    if not target.parent.is_dir():
        raise DataError(f"{target.parent} is no folder", hint="make it first")
    partial = target.parent / f".{target.name}.{os.getpid()}.partial"
    try:
        _Published(source, kind).write(partial, scheme)
        if target.is_dir():
            target.rmdir()
        partial.replace(target)
        fsync(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


@dataclass(frozen=True)
class _Kind:
    """How one kind of model is read and written. `artifact` is the kind of artifact that it becomes: "model" for what
    writes text, for the latest of these is what is served."""

    artifact: str
    load: Callable[..., Any]
    save: Callable[[Any, Path], None]
    reads_text: bool = True
    reads_images: bool = False


def _kind_of(model_type: str) -> _Kind:
    if model_type in ENCODER_FAMILIES:
        return _Kind("encoder", load_encoder, save_encoder)
    if model_type in CLIP_TYPES:
        return _Kind("image-text", load_clip, save_clip, reads_images=True)
    if model_type in VISION_FAMILIES:
        return _Kind("image-encoder", load_vision, save_vision, reads_text=False, reads_images=True)
    if model_type in ARCHITECTURES:
        return _Kind("seq2seq", load_seq2seq, save_seq2seq)
    if model_type == RECURRENT:
        return _Kind("seq2seq", load_recurrent, save_recurrent)
    if model_type == LLAVA:
        return _Kind("model", load_vision_language, save_vision_language, reads_images=True)
    return _Kind("model", load_pretrained, save_pretrained)


class _Published:
    """A model with the files beside its weights, read whole."""

    def __init__(self, folder: Path, dtype: torch.dtype | None) -> None:
        self.kind = _kind_of(str(read_json(folder / "config.json").get("model_type")))
        self._beside: dict[str, bytes] = {}
        if self.kind.artifact == "encoder":
            Pooling.from_folder(folder)  # what it does not know should be said now
            self._beside = {name: (folder / name).read_bytes() for name in POOLING_FILES if (folder / name).is_file()}
        self.model = self.kind.load(folder, dtype=dtype)
        self.tokenizer = Tokenizer.load(folder) if self.kind.reads_text else None
        self._processor = ImageProcessor.from_folder(folder) if self.kind.reads_images else None
        if (folder / PROCESSOR).is_file() and self.kind.reads_images:
            self._beside[PROCESSOR] = as_json(read_json(folder / PROCESSOR))

    def write(self, folder: Path, scheme: Scheme | None = None) -> None:
        if scheme is None:
            self.kind.save(self.model, folder)
        elif isinstance(self.model, Decoder):
            save_quantized(self.model, folder, scheme)
        else:
            raise ConfigError("only decoders are quantised", hint="leave --quantize out, or take --dtype float16")
        for name, data in self._beside.items():
            (folder / name).parent.mkdir(exist_ok=True)
            write_durably(folder / name, data)
        if self.tokenizer is not None:
            self.tokenizer.save(folder)
        if self._processor is not None:
            self._processor.to_folder(folder)

    def metrics(self) -> dict[str, Any]:
        model = self.model
        parameters = list(model.parameters())
        numbers = {
            "model_type": getattr(model.config, "model_type", RECURRENT),
            "parameters": sum(p.numel() for p in parameters),
            "dtype": str(parameters[0].dtype).removeprefix("torch."),
        }
        if self.tokenizer is not None:
            numbers["vocab_size"] = self.vocab_size
            if hasattr(model, "context_length"):  # relative and recurrent positions have no end
                numbers["context_length"] = model.context_length
        if self._processor is not None:
            numbers["image_size"] = self._image_size()
        return numbers

    @property
    def vocab_size(self) -> int:
        """How many token ids it reads."""
        config = self.model.config
        if isinstance(config, RecurrentConfig):
            return config.source_vocab_size
        return getattr(config, "text_config", config).vocab_size

    def _image_size(self) -> list[int]:
        config = self.model.config
        return list(getattr(config, "vision_config", config).image_shape)
