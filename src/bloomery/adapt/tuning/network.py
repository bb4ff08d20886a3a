"""Networks: small nets that learn labels from nothing but labelled texts, as answerers beside tuned models.

The older ones: the mean of embeddings through a feed-forward net, convolutions over them (see `models.classifiers`),
and any decoder or encoder of `training.building` from random weights. They borrow a tokenizer, whose vocabulary others
learnt, and no weight. This module does not know how a step is taken (`training.fit`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from bloomery.adapt.tuning.answerer import TunedClassifier, open_tuned
from bloomery.adapt.tuning.config import TuningFitConfig
from bloomery.core.artifact import Artifact, sha256_file, write_durably
from bloomery.core.config import canonical_json, to_dict
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.energy import open_meter
from bloomery.engine.loading import LABELS
from bloomery.evaluate.sample import Sample
from bloomery.tokenizer import Tokenizer
from bloomery.training.building import NetConfig, build, padding
from bloomery.training.fit import fit
from bloomery.training.labels import ClassificationObjective, LabelledText, TextReader
from bloomery.training.loader import ExampleLoader
from bloomery.training.publishing import save_model

STAGE = "network"


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Which net, and how it learns."""

    net: NetConfig = field(default_factory=lambda: NetConfig(family="mean", dropout=0.5))
    """Its family ("mean", "conv", or an encoder or decoder) and sizes."""
    fit: TuningFitConfig = field(
        default_factory=lambda: TuningFitConfig(epochs=10.0, learning_rate=1e-3, weight_decay=0.01)
    )
    """How long and how fast; the best validation's weights are kept where there is a validation."""
    context_length: int = 256
    """Tokens of a text that are read."""


def train_network(
    tokenizer: str | Path | Artifact,
    train: Sequence[Sample],
    dev: Sequence[Sample] = (),
    *,
    labels: Sequence[str],
    config: NetworkConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> TunedClassifier:
    """A net from random weights that tells labels, as an answerer. `tokenizer`: an artifact, or a folder with one.

    An equal call opens what was made, a killed one goes on. ConfigError for a family that gives no labels; DataError
    for a sample without one.
    """
    workspace, config = as_workspace(workspace), config or NetworkConfig()
    folder = tokenizer.path if isinstance(tokenizer, Artifact) else Path(tokenizer).expanduser()
    labels = tuple(labels)
    if len(labels) < 2:
        raise ConfigError("a net that tells labels needs two or more of them")
    parts = [[(one.input, _place(one, labels)) for one in part] for part in (train, dev)]
    if not parts[0]:
        raise DataError("there is no sample to learn from")
    read = Tokenizer.load(folder)
    vocabulary = [sha256_file(file) for file in sorted(folder.glob("token*")) if file.is_file()]
    held = [vocabulary, list(labels), parts]
    inputs = StageInputs(
        stage=STAGE,
        config=to_dict(config),
        seed=config.fit.seed,
        fingerprint=hashlib.sha256(canonical_json(held).encode("utf-8", "backslashreplace")).hexdigest(),
    )
    made = None if fresh else reusable(workspace, inputs)
    if made is None:
        with Run(workspace, inputs, meter=open_meter()) as run:
            made = _made(run, read, parts, labels, config)
    answerer = open_tuned(made, workspace=workspace)
    assert isinstance(answerer, TunedClassifier)
    return answerer


def _place(sample: Sample, labels: tuple[str, ...]) -> int:
    if not sample.targets or sample.targets[0] not in labels:
        raise DataError(f"sample {sample.id!r:.60} has none of the labels {', '.join(labels)[:120]}")
    return labels.index(sample.targets[0])


def _made(
    run: Run, tokenizer: Tokenizer, parts: list[list[tuple[str, int]]], labels: tuple[str, ...], config: NetworkConfig
) -> Artifact:
    texts, others = (
        [
            LabelledText(
                tokenizer.encode_with_special(text, max_length=config.context_length)[0] or [padding(tokenizer)], place
            )
            for text, place in part
        ]
        for part in parts
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.fit.seed)
        model = build("classes", config.net, tokenizer, context_length=config.context_length, num_labels=len(labels))
        lengths = [len(one.input_ids) for one in texts]
        rows, seed = config.fit.batch_rows, config.fit.seed
        loader = ExampleLoader(texts, others, rows=rows, seed=seed, lengths=lengths)
        objective = ClassificationObjective(model, loader, TextReader(padding(tokenizer)), seed=seed)
        fitted = fit(run, objective, config.fit, steps_an_epoch=max(1, len(texts) // rows), stage=STAGE)
    folder = run.new_folder("network")
    write_durably(folder / LABELS, canonical_json(list(labels)).encode())
    kind = save_model(model.to("cpu").eval(), folder, labels=labels)
    tokenizer.save(folder)
    metrics = {
        "objective": "labels",
        "method": config.net.family or "network",
        "labels": list(labels),
        "examples_given": len(texts) + len(others),
        "trained_parameters": sum(part.numel() for part in model.parameters()),
        **fitted.metrics,
    }
    return run.publish(folder, kind=kind, metrics=metrics)
