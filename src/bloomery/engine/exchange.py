"""Open weights in and out: a published model becomes an artifact, an artifact a folder that others read.

What goes in has been read whole by our own code first; nothing but safetensors, JSON and Jinja is copied. This module
does not know layouts of weights (see the floor `models`) nor GGUF's (see `gguf_import` and `gguf_file`).
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from bloomery.core.artifact import Artifact, fsync, sha256_file, write_durably
from bloomery.core.config import digest
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.engine.calibration import fitted_codes
from bloomery.engine.finding import find_model, is_gguf
from bloomery.engine.gguf_import import read_model
from bloomery.engine.loading import LABELS, as_dtype, read_label_names
from bloomery.models.adapted import AdaptedDecoder
from bloomery.models.adapter import read_adapter
from bloomery.models.compressed import Scheme, scheme_named
from bloomery.models.decoder import Decoder
from bloomery.models.image_processor import ImageProcessor
from bloomery.models.kinds import kind_of
from bloomery.models.pooling import Pooling, pooling_files
from bloomery.models.pretrained import save_quantized
from bloomery.models.quantize import QuantizedWeight
from bloomery.models.recurrent import RecurrentConfig
from bloomery.models.weights import as_json, read_json
from bloomery.tokenizer import TokenizerPair

STAGE = "import"
PROCESSOR = "processor_config.json"
"""How transformers puts images and text together."""
_VERSION = 1
_log = logging.getLogger("bloomery.engine")


def import_model(
    reference: str | Path,
    *,
    dtype: str | torch.dtype | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """A local Hugging Face folder (or one that `export_model` wrote), a hub id, or a decoder's GGUF file (llama.cpp's)
    as an artifact in our ledger: of kind "model" if it writes text, else "encoder", "image-text", "image-encoder",
    "seq2seq" or "classifier".

    `dtype` None keeps the checkpoint's; float16 for a GGUF file with quantised weights. Metrics: model_type,
    parameters, dtype, source; context_length and vocab_size of what reads text, image_size (height and width) of what
    reads images. Raises DataError for weights that are damaged or do not fit, ConfigError for a family or key that is
    not supported, ArtifactError where there is no such model.
    """
    workspace, kind = as_workspace(workspace), as_dtype(dtype)
    source, name, content = _source(reference, workspace)
    inputs = StageInputs(
        stage=STAGE,
        config={"dtype": str(kind).removeprefix("torch.") if kind else None},
        fingerprint=digest(content),
        version=_VERSION,
    )
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    from bloomery.energy import open_meter

    with Run(workspace, inputs, meter=open_meter()) as run:
        with run.phase("read"):
            read = _Published(source, kind) if source.is_dir() else _GgufModel(source, kind)
        for sentence in read.notes():
            run.note(sentence)
        with run.phase("write"):
            made = run.new_folder()
            read.write(made)
        return run.publish(made, kind=read.kind.artifact, metrics={**read.metrics(), "source": name})


def _source(reference: str | Path, workspace: Workspace) -> tuple[Path, str, list[list[str]]]:
    """The model's folder or GGUF file, its name, and of each file that counts its name and SHA-256."""
    if is_gguf(reference):
        path = Path(reference).expanduser()
        if not path.is_file():
            raise DataError(f"there is no file {path}", hint="give the path of a .gguf file")
        return path, path.name, [["", sha256_file(path)]]
    folder, name = find_model(reference, workspace)
    kinds = (".safetensors", ".json", ".jinja", ".model", ".txt")
    # Poolings and a target's tokenizer lie in folders of their own.
    files = sorted(p for at in ("*", "*/*") for p in folder.glob(at) if p.suffix in kinds and p.is_file())
    return folder, name, [[p.relative_to(folder).as_posix(), sha256_file(p)] for p in files]


def export_model(
    reference: str | Path | Artifact,
    folder: str | Path,
    *,
    dtype: str | torch.dtype | None = None,
    quantize: str | None = None,
    group_size: int = 32,
    calibrate: Iterable[str] = (),
    adapter: str | Path | None = None,
    workspace: Workspace | str | Path | None = None,
    note: Callable[[str], None] = _log.warning,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write a model as a Hugging Face folder that transformers, vLLM and llama.cpp's converter read.

    `dtype` None keeps its own. `quantize` "int8" rounds the linear layers of a decoder to integers, one scale for each
    output channel, "int8-groups" and "int4" one for `group_size` inputs (see `models.compressed`; vLLM reads it,
    transformers with the package compressed-tensors), fitted to the texts of `calibrate` if there are any (see
    `models.calibrated`; `progress` hears how many groups of layers are done, of how many); "float16" is that dtype.
    `adapter` is the folder of a LoRA adapter, which is merged into the weights of a decoder. Recurrent nets and small
    classifiers, which nothing else has, become a folder that `import_model` and `load` read: `note` is told so. The
    folder must be new or empty: it appears whole or not at all. Raises DataError if it is neither, or has no place;
    ConfigError for a decoder with parts that they do not run, or for what cannot be quantised.
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
        read = _Published(source, kind)
        if isinstance(read.model, Decoder):
            read.model.config.check_published()
        if adapter is not None:
            if not isinstance(read.model, Decoder):
                raise ConfigError("adapters are merged into decoders only", hint="leave --adapter out")
            AdaptedDecoder(read.model).merge(read_adapter(adapter, read.model, "merged"))
        known = read.fitted(scheme, calibrate, note, progress)
        read.write(partial, scheme, known)
        if not read.kind.published:
            note(f"no other program has a {read.model_type}: only bloomery reads this folder (bloomery import)")
        if target.is_dir():
            target.rmdir()
        partial.replace(target)
        fsync(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


class _Published:
    """A model with the files beside its weights, read whole."""

    def __init__(self, folder: Path, dtype: torch.dtype | None) -> None:
        values = read_json(folder / "config.json")
        self.kind, self.model_type = kind_of(values), str(values.get("model_type"))
        self._beside: dict[str, bytes] = {}
        if self.kind.name == "encoder":
            Pooling.from_folder(folder)  # what it does not know should be said now
            self._beside = {name: (folder / name).read_bytes() for name in pooling_files(folder)}
        self.labels = read_label_names(folder)
        if self.labels:
            self._beside[LABELS] = (folder / LABELS).read_bytes()
        self.model = self.kind.load(folder, dtype=dtype)
        if self.labels and self.kind.name == "decoder-classifier":
            self.model.labels = tuple(self.labels)  # what was trained before config.json named them
        self.tokenizers = TokenizerPair.load(folder) if self.kind.reads_text else None
        self._processor = ImageProcessor.from_folder(folder) if self.kind.reads_images else None
        if (folder / PROCESSOR).is_file() and self.kind.reads_images:
            self._beside[PROCESSOR] = as_json(read_json(folder / PROCESSOR))

    def fitted(
        self,
        scheme: Scheme | None,
        texts: Iterable[str],
        note: Callable[[str], None],
        progress: Callable[[int, int], None],
    ) -> dict[str, QuantizedWeight] | None:
        """Integers fitted to some texts; None where there are none, or too few tokens, which is said."""
        texts = iter(texts)
        first = next(texts, None)
        if scheme is None or first is None or self.tokenizers is None or not isinstance(self.model, Decoder):
            return None
        try:
            return fitted_codes(self.model, scheme, self.tokenizers.source, chain([first], texts), progress=progress)
        except DataError as error:
            note(f"{error.message}: they are rounded each by itself")
            return None

    def write(
        self, folder: Path, scheme: Scheme | None = None, known: Mapping[str, QuantizedWeight] | None = None
    ) -> None:
        if scheme is None:
            self.kind.save(self.model, folder)
        elif isinstance(self.model, Decoder):
            save_quantized(self.model, folder, scheme, known=known)
        else:
            raise ConfigError("only decoders are quantised", hint="leave --quantize out, or take --dtype float16")
        for name, data in self._beside.items():
            (folder / name).parent.mkdir(exist_ok=True)
            write_durably(folder / name, data)
        if self.tokenizers is not None:
            self.tokenizers.save(folder)
        if self._processor is not None:
            self._processor.to_folder(folder)

    def metrics(self) -> dict[str, Any]:
        model = self.model
        parameters = list(model.parameters())
        numbers = {
            "model_type": self.model_type,
            "parameters": sum(p.numel() for p in parameters),
            "dtype": str(parameters[0].dtype).removeprefix("torch."),
        }
        if self.tokenizers is not None:
            numbers["vocab_size"] = self.vocab_size
            if isinstance(model.config, RecurrentConfig):
                numbers["target_vocab_size"] = model.config.target_vocab_size
            if hasattr(model, "context_length"):  # relative and recurrent positions have no end
                numbers["context_length"] = model.context_length
        if self._processor is not None and (shape := self._image_shape()):
            numbers["image_size"] = shape
        if labels := self.labels or list(getattr(model, "labels", ())):
            numbers["labels"] = labels
        return numbers

    @property
    def vocab_size(self) -> int:
        """How many token ids it reads."""
        config = self.model.config
        if isinstance(config, RecurrentConfig):
            return config.source_vocab_size
        return getattr(config, "text_config", config).vocab_size

    def notes(self) -> Iterator[str]:
        """Where tokenizers and model do not fit, though both can be used."""
        if self.tokenizers is None:
            return
        config = self.model.config
        pairs = [("reads", self.tokenizers.source, self.vocab_size)]
        if isinstance(config, RecurrentConfig):
            pairs.append(("writes", self.tokenizers.target, config.target_vocab_size))
        for does, tokenizer, size in pairs:
            if tokenizer.vocab_size > size:
                yield f"the tokenizer has {tokenizer.vocab_size:,} ids, the model {does} {size:,} only"

    def _image_shape(self) -> list[int]:
        """Height and width of a picture; none for a net that takes any."""
        config = self.model.config
        return list(getattr(getattr(config, "vision_config", config), "image_shape", ()))


class _GgufModel(_Published):
    """The same of a GGUF file."""

    def __init__(self, path: Path, dtype: torch.dtype | None) -> None:
        read = read_model(path, dtype=dtype)
        self.model, self.tokenizers = read.decoder, TokenizerPair(read.tokenizer, read.tokenizer)
        self.kind, self.model_type = kind_of(read.decoder.config.to_hf()), read.decoder.config.model_type
        self._beside, self.labels, self._processor = {}, [], None
        self._said = read.notes

    def notes(self) -> Iterator[str]:
        yield from self._said
        yield from super().notes()
