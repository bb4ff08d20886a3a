"""Open weights in and out: a published model becomes an artifact, an artifact a folder that others read.

What goes in has been read whole by our own code first; nothing but safetensors, JSON and Jinja is copied. This module
does not know layouts of weights (see the floor `models`) nor GGUF (see `gguf_file`).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from bloomery.core.artifact import Artifact, fsync, sha256_file, write_durably
from bloomery.core.config import digest
from bloomery.core.errors import DataError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.engine.loading import as_dtype, find_model
from bloomery.models import Decoder, load_pretrained, save_pretrained
from bloomery.models.encoder import Encoder, load_encoder, save_encoder
from bloomery.models.encoder_families import ENCODER_FAMILIES
from bloomery.models.pooling import POOLING_FILES, Pooling
from bloomery.models.weights import read_json
from bloomery.tokenizer import Tokenizer

STAGE = "import"
_VERSION = 1


def import_model(
    reference: str | Path,
    *,
    dtype: str | torch.dtype | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """A local Hugging Face folder or a hub id as an artifact of kind "model" or "encoder", in our ledger.

    `dtype` None keeps the checkpoint's. Metrics: model_type, parameters, dtype, context_length, vocab_size, source.
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
            model, tokenizer = _read(folder, kind), Tokenizer.load(folder)
        config = model.config
        if tokenizer.vocab_size > config.vocab_size:
            run.note(f"the tokenizer has {tokenizer.vocab_size:,} ids, the model reads {config.vocab_size:,} only")
        metrics = {
            "model_type": config.model_type,
            "parameters": sum(p.numel() for p in model.parameters()),
            "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
            "context_length": model.context_length,
            "vocab_size": config.vocab_size,
            "source": name,
        }
        with run.phase("write"):
            made = run.new_folder()
            _write(model, made, folder)
            tokenizer.save(made)
        kind_of = "model" if isinstance(model, Decoder) else "encoder"  # the latest model is one that writes text
        return run.publish(made, kind=kind_of, metrics=metrics)


def export_model(
    reference: str | Path | Artifact,
    folder: str | Path,
    *,
    dtype: str | torch.dtype | None = None,
    workspace: Workspace | str | Path | None = None,
) -> Path:
    """Write a model as a Hugging Face folder that transformers, vLLM and llama.cpp's converter read.

    `dtype` None keeps its own. The folder must be new or empty: it appears whole or not at all. Raises DataError if
    it is neither, or has no place.
    """
    target, kind = Path(folder).expanduser().absolute(), as_dtype(dtype)
    source, _ = find_model(reference, workspace)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} is there already", hint="export to a new or an empty folder")
    if not target.parent.is_dir():
        raise DataError(f"{target.parent} is no folder", hint="make it first")
    partial = target.parent / f".{target.name}.{os.getpid()}.partial"
    try:
        model, tokenizer = _read(source, kind), Tokenizer.load(source)
        _write(model, partial, source)
        tokenizer.save(partial)
        if target.is_dir():
            target.rmdir()
        partial.replace(target)
        fsync(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _read(folder: Path, dtype: torch.dtype | None) -> Decoder | Encoder:
    if read_json(folder / "config.json").get("model_type") in ENCODER_FAMILIES:
        Pooling.from_folder(folder)  # what it does not know should be said now
        return load_encoder(folder, dtype=dtype)
    return load_pretrained(folder, dtype=dtype)


def _write(model: Decoder | Encoder, folder: Path, source: Path) -> None:
    if isinstance(model, Decoder):
        save_pretrained(model, folder)
        return
    save_encoder(model, folder)
    for name in POOLING_FILES:
        if (source / name).is_file():
            (folder / name).parent.mkdir(exist_ok=True)
            write_durably(folder / name, (source / name).read_bytes())
