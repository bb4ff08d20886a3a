"""Open weights in and out: a published model becomes an artifact, an artifact a folder that others read.

What goes in has been read whole by our own code first; nothing but safetensors, JSON and Jinja is copied. This module
does not know layouts of weights (see the floor `models`) nor GGUF (see `gguf_file`).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from bloomery.core.artifact import Artifact, fsync, sha256_file
from bloomery.core.config import digest
from bloomery.core.errors import DataError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.engine.loading import as_dtype, find_model
from bloomery.models import load_pretrained, save_pretrained
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
    """A local Hugging Face folder or a hub id as an artifact of kind "model", in our ledger from then on.

    `dtype` None keeps the checkpoint's. Metrics: model_type, parameters, dtype, context_length, vocab_size, source.
    Raises DataError for weights that are damaged or do not fit, ConfigError for a family or key that is not
    supported, ArtifactError where there is no such model.
    """
    workspace, kind = as_workspace(workspace), as_dtype(dtype)
    folder, name = find_model(reference, workspace)
    sources = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json", ".jinja", ".model"))
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
            decoder, tokenizer = load_pretrained(folder, dtype=kind), Tokenizer.load(folder)
        config = decoder.config
        if tokenizer.vocab_size > config.vocab_size:
            run.note(f"the tokenizer has {tokenizer.vocab_size:,} ids, the model reads {config.vocab_size:,} only")
        metrics = {
            "model_type": config.model_type,
            "parameters": sum(p.numel() for p in decoder.parameters()),
            "dtype": str(next(decoder.parameters()).dtype).removeprefix("torch."),
            "context_length": config.max_position_embeddings,
            "vocab_size": config.vocab_size,
            "source": name,
        }
        with run.phase("write"):
            made = run.new_folder()
            save_pretrained(decoder, made)
            tokenizer.save(made)
        return run.publish(made, kind="model", metrics=metrics)


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
        decoder, tokenizer = load_pretrained(source, dtype=kind), Tokenizer.load(source)
        save_pretrained(decoder, partial)
        tokenizer.save(partial)
        if target.is_dir():
            target.rmdir()
        partial.replace(target)
        fsync(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target
