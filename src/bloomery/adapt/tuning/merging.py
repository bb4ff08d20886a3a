"""Merging: an adapter written into its base, as a model of its own. This module does not know training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

from torch import nn

from bloomery.adapt.tuning.adapt import SAMPLES, adapter_folder, base_of
from bloomery.adapt.tuning.adapter_files import load_adapter
from bloomery.adapt.tuning.lora import merge, remove_lora
from bloomery.core.artifact import Artifact, sha256_file, write_durably
from bloomery.core.config import digest
from bloomery.core.errors import ConfigError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.energy import open_meter
from bloomery.engine.loading import LABELS, read_label_names
from bloomery.models import load_pretrained
from bloomery.models.adapter import TEMPLATE, WEIGHTS
from bloomery.models.adapter_config import FILE
from bloomery.tokenizer import Tokenizer
from bloomery.training.building import rebuild
from bloomery.training.publishing import save_model

STAGE = "merge"


def merge_adapter(
    adapter: str | Path | Artifact,
    *,
    model: str | Path | Artifact | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """The base with an adapter in its weights, as an artifact of the base's kind (a classifier, for labels).

    `adapter` is an artifact or a folder in PEFT's format; `model` its base, which an artifact knows itself. Weights are
    in the base's type. Raises ConfigError, DataError, ArtifactError.
    """
    workspace = as_workspace(workspace)
    folder, found = adapter_folder(adapter, workspace)
    if model is None:
        if found is None:
            raise ConfigError(f"{folder} does not say which artifact it belongs to", hint="--model BASE")
        model = base_id(found)
    base = base_of(model, workspace)
    files = [sha256_file(folder / name) for name in (FILE, WEIGHTS)]
    parents = (base.id, found.id) if found is not None else (base.id,)
    inputs = StageInputs(stage=STAGE, config={}, parents=parents, fingerprint=digest(files))
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    with Run(workspace, inputs, meter=open_meter()) as run:
        labels = read_label_names(folder)
        tuned, tokenizer = merged(base.path, folder)
        out = run.new_folder("merged")
        kind = save_model(tuned, out, labels=labels)
        tokenizer.save(out)
        if labels:
            write_durably(out / LABELS, json.dumps(labels, ensure_ascii=False).encode())
        if (folder / SAMPLES).is_file():
            write_durably(out / SAMPLES, (folder / SAMPLES).read_bytes())
        parameters = sum(p.numel() for p in tuned.parameters())
        return run.publish(out, kind=kind, metrics={"parameters": parameters, "adapter": found.name if found else ""})


def merged(base: Path, folder: Path) -> tuple[nn.Module, Tokenizer]:
    """The model in `base` with the adapter of a folder in its weights, in evaluation mode, and how texts are read."""
    tokenizer, labels = Tokenizer.load(base), read_label_names(folder)
    tuned = rebuild("classes", base, tokenizer, num_labels=len(labels)) if labels else load_pretrained(base)
    load_adapter(tuned, folder)
    merge(tuned)
    remove_lora(tuned)
    if not labels and tokenizer.chat_template is None and (folder / TEMPLATE).is_file():
        tokenizer = tokenizer.with_chat_template((folder / TEMPLATE).read_text(encoding="utf-8"))
    return tuned.requires_grad_(False).eval(), tokenizer


def base_id(adapter: Artifact) -> str:
    """The id of the model that an adapter's artifact was trained on."""
    return cast(str, adapter.manifest["parents"][0])
