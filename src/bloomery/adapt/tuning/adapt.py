"""Adapting as a stage: a model and a file of examples in; an adapter in PEFT's format, or a whole model, out.

Conversations, instructions and completions are learnt as answers; texts with labels give a classifier. Killed at any
instant, the same call goes on from its last checkpoint. The artifact says what validation cost before and after, and
what some held-out prompts are answered. This module does not know how a step is taken (`training.fit`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bloomery.adapt.tuning.adapter_files import save_adapter
from bloomery.adapt.tuning.config import AdaptConfig, budgeted
from bloomery.adapt.tuning.instruct_data import Example, read_examples
from bloomery.adapt.tuning.material import Material, chat_material, label_material
from bloomery.adapt.tuning.samples import answers
from bloomery.core.artifact import MANIFEST, Artifact, sha256_file, write_durably
from bloomery.core.config import digest, from_dict, to_dict
from bloomery.core.errors import ArtifactError, DataError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import LATEST, Workspace, as_workspace
from bloomery.energy import open_meter
from bloomery.engine import import_model
from bloomery.engine.loading import LABELS
from bloomery.models.adapter import TEMPLATE, WEIGHTS
from bloomery.models.adapter_config import FILE
from bloomery.tokenizer import Tokenizer
from bloomery.training.fit import fit, precision_of
from bloomery.training.publishing import save_model
from bloomery.training.speed import choose_device

STAGE = "adapt"
ADAPTER = "adapter"
"""The kind of an artifact whose folder is one of PEFT's."""
SAMPLES = "samples.json"
_BASES = ("model", "encoder")

Data = str | Path | Sequence[str | Path]


def adapt_inputs(config: AdaptConfig, parents: tuple[str, ...], held: object) -> StageInputs:
    """What the stage depends on: the base's artifact id and that of an adapter to go on with, and what stands for the
    data, as JSON data."""
    return StageInputs(
        stage=STAGE, config=to_dict(config), parents=parents, seed=config.fit.seed, fingerprint=digest(held)
    )


def adapt(
    model: str | Path | Artifact,
    data: Data,
    *,
    method: str = "",
    config: AdaptConfig | None = None,
    validation: Data = (),
    adapter: str | Path | Artifact | None = None,
    minutes: float | None = None,
    epochs: float | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """Tune a model (artifact, name, folder or hub id) on files of examples (see `instruct_data`).

    Returns an artifact of kind "adapter", or with method "full" of the model's own kind. `validation` are files of what
    is held out; otherwise a share of the data is. `adapter` is one of this model (artifact or folder) to go on with. An
    equal call returns the same artifact without training, unless `fresh`. Raises ConfigError, DataError, TrainingError.
    """
    workspace, config = as_workspace(workspace), _chosen(config or AdaptConfig(), method, minutes, epochs)
    files, held = paths_of(data), paths_of(validation)
    if not files:
        raise DataError("no data is given to learn from")
    examples, others = ([one for path in paths for one in read_examples(path)] for paths in (files, held))
    read = [[sha256_file(path) for path in paths] for paths in (files, held)]
    options: dict[str, Any] = {"adapter": adapter, "config": config, "workspace": workspace, "fresh": fresh}
    return adapt_examples(model, examples, others, read, **options)


def adapt_examples(
    model: str | Path | Artifact,
    examples: list[Example],
    validation: list[Example],
    identity: object,
    *,
    config: AdaptConfig,
    workspace: Workspace,
    adapter: str | Path | Artifact | None = None,
    fresh: bool = False,
) -> Artifact:
    """As `adapt`, of examples that are there already; `identity` is JSON data that stands for them all."""
    base = base_of(model, workspace)
    folder, found = (None, None) if adapter is None else adapter_folder(adapter, workspace)
    parents = (base.id,) if found is None else (base.id, found.id)
    if folder is not None:
        identity = [identity, [sha256_file(folder / name) for name in (FILE, WEIGHTS)]]
    inputs = adapt_inputs(config, parents, identity)
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    with Run(workspace, inputs, meter=open_meter()) as run:
        if fresh:
            for name in ("checkpoints", "best"):
                shutil.rmtree(run.scratch / name, ignore_errors=True)
            (run.scratch / "fit.json").unlink(missing_ok=True)
        return _publish(run, config, base, folder, examples, validation)


def base_of(model: str | Path | Artifact, workspace: Workspace) -> Artifact:
    """The artifact of a model to begin with; a folder or hub id is imported first."""
    found = model
    if not isinstance(model, Artifact):
        known = isinstance(model, str) and bool(workspace.matching(model))
        found = workspace.find(str(model)) if known else import_model(model, workspace=workspace)
    assert isinstance(found, Artifact)
    if found.kind not in _BASES:
        raise ArtifactError(f"{found.name} is a {found.kind}, which is not tuned here", hint="give a language model")
    return found


def adapter_folder(adapter: str | Path | Artifact, workspace: Workspace) -> tuple[Path, Artifact | None]:
    """The folder of an adapter, and its artifact if it is one."""
    if not isinstance(adapter, Artifact):
        path = Path(adapter).expanduser()
        if (path / FILE).is_file() and not (path / MANIFEST).is_file():
            return path, None
        if path.is_dir() and not (path / MANIFEST).is_file():
            raise DataError(f"{path} is no adapter: it has no {FILE}", hint="is it the folder of an adapter?")
        adapter = (
            Artifact.open(path)
            if (path / MANIFEST).is_file()
            else workspace.find(str(adapter), kind=ADAPTER if adapter == LATEST else None)
        )
    if adapter.kind != ADAPTER:
        raise ArtifactError(f"{adapter.name} is a {adapter.kind}, not an adapter", hint="bloomery adapt makes one")
    return adapter.path, adapter


def paths_of(data: Data) -> list[Path]:
    """One path or several."""
    return [Path(one).expanduser() for one in ([data] if isinstance(data, (str, Path)) else data)]


def _chosen(config: AdaptConfig, method: str, minutes: float | None, epochs: float | None) -> AdaptConfig:
    chosen = replace(config, fit=budgeted(config.fit, minutes, epochs))
    return chosen if not method else from_dict(AdaptConfig, {**to_dict(chosen), "method": method}, where=STAGE)


def _publish(
    run: Run,
    config: AdaptConfig,
    base: Artifact,
    adapter: Path | None,
    examples: list[Example],
    validation: list[Example],
) -> Artifact:
    labelled = {example.label is not None for example in [*examples, *validation]}
    if len(labelled) > 1:
        bare = next(one for one in [*examples, *validation] if one.label is None)
        raise DataError(f"{bare.where} has no label, others have", hint="texts with labels only, or none")
    make = label_material if labelled == {True} else chat_material
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.fit.seed)
        with run.phase("read"):
            material = make(config, base.path, examples, validation, adapter)
        for note in material.notes:
            run.note(note)
        fitting = config.rated(material.hidden_size)
        device = choose_device(fitting.device)
        material.objective.model.to(device)
        with run.phase("before"):
            precision = precision_of(fitting, device)
            before = material.objective.validate(None, device, precision) if material.objective.can_validate() else None
            asked = answers(material, config)
        fitted = fit(run, material.objective, fitting, steps_an_epoch=material.steps_an_epoch, stage=f"{STAGE}.fit")
        with run.phase("after"):
            told = answers(material, config)
    figures = {f"validation_{name}_before": value for name, value in before.values.items()} if before else {}
    samples = [{**one, "before": one["answer"], "after": two["answer"]} for one, two in zip(asked, told, strict=True)]
    folder = run.new_folder("adapted")
    kind = _write(folder, config, base, material)
    document = [{key: value for key, value in one.items() if key != "answer"} for one in samples]
    write_durably(folder / SAMPLES, json.dumps(document, indent=1, ensure_ascii=False).encode())
    metrics = {
        "objective": material.kind,
        "method": config.method,
        "learning_rate": fitting.learning_rate,
        **material.metrics,
        **figures,
        **fitted.metrics,
        **_memory(device),
    }
    return run.publish(folder, kind=kind, metrics=metrics)


def _write(folder: Path, config: AdaptConfig, base: Artifact, material: Material) -> str:
    model = material.objective.model.to("cpu").eval()
    if material.labels:
        write_durably(folder / LABELS, json.dumps(material.labels, ensure_ascii=False).encode())
    if config.method != "full":
        save_adapter(model, folder, base=base.name)
        template = material.tokenizer.chat_template
        if template is not None and Tokenizer.load(base.path).chat_template is None:
            write_durably(folder / TEMPLATE, template.source.encode())
        return ADAPTER
    kind = save_model(model, folder, labels=material.labels)
    material.tokenizer.save(folder)
    return kind


def _memory(device: torch.device) -> dict[str, int]:
    """The most memory that was held: of the GPU, or of this process as a whole."""
    if device.type == "cuda":
        return {"peak_memory_bytes": torch.cuda.max_memory_allocated(device)}
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak_memory_bytes": peak if sys.platform == "darwin" else peak * 1024}
