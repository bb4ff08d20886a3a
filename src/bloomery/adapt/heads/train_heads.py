"""Extra heads as a stage: a model and a corpus like what it writes in, heads out that guess its next tokens.

The model is not changed: whatever the heads guess, it draws the tokens that it would have drawn. Killed at any instant,
the same call goes on from its last checkpoint. This module does not know how guesses are used (see `engine.drafts`).
"""

from __future__ import annotations

from pathlib import Path

import torch

from bloomery.adapt.heads.config import HeadsConfig
from bloomery.adapt.heads.objective import HeadsObjective
from bloomery.adapt.starting import STAGE, Start, begin_anew
from bloomery.core.artifact import Artifact
from bloomery.core.config import to_dict
from bloomery.core.errors import ConfigError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.energy import open_meter
from bloomery.models.future_heads import KIND, FutureHeads, FutureHeadsConfig
from bloomery.tokenizer import PackedRows, TokenizeConfig, TokenShards, tokenize
from bloomery.training.fit import fit
from bloomery.training.speed import choose_device

_LONGEST_ROW = 512


def train_heads(
    model: Artifact,
    corpus: Artifact,
    *,
    config: HeadsConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """Train extra heads of a model on a corpus; returns a "heads" artifact (heads.json, heads.safetensors).

    An equal call returns the same artifact without training, unless `fresh`. Raises ConfigError, DataError,
    TrainingError.
    """
    workspace, config = as_workspace(workspace), config or HeadsConfig()
    inputs = StageInputs(
        stage=STAGE,
        config={"method": KIND, **to_dict(config)},
        parents=(model.id, corpus.id),
        seed=config.fit.seed,
    )
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    start = Start.of(model)
    decoder = start.decoder.requires_grad_(False).eval()
    length = config.context_length or min(_LONGEST_ROW, decoder.context_length)
    if length > decoder.context_length:
        raise ConfigError(f"{model.name} reads {decoder.context_length:,} tokens at most, not {length:,}")
    tokens = tokenize(corpus, model, config=TokenizeConfig(context_length=length), workspace=workspace)
    with Run(workspace, inputs, meter=open_meter()) as run:
        if fresh:
            begin_anew(run)
        device = choose_device(config.fit.device)
        torch.manual_seed(config.fit.seed)
        sizes = {"hidden_size": decoder.config.hidden_size, "vocab_size": decoder.config.vocab_size}
        heads = FutureHeads(FutureHeadsConfig(heads=config.heads, base=model.id, **sizes)).to(device)
        objective = HeadsObjective(
            heads,
            decoder.to(device),
            PackedRows(TokenShards(tokens, "train"), context_length=length, seed=config.fit.seed),
            TokenShards(tokens, "validation"),
            validation_rows=min(config.fit.batch_rows, 64),
        )
        rows = int(TokenShards(tokens, "train").num_labels().sum()) / length
        fitted = fit(run, objective, config.fit, steps_an_epoch=rows / config.fit.batch_rows, stage=STAGE)
        folder = run.new_folder(KIND)
        heads.save(folder)
        parameters = sum(one.numel() for one in heads.parameters())
        metrics = {
            "method": KIND,
            "heads": config.heads,
            "parameters": parameters + sum(one.numel() for one in decoder.parameters()),
            "trained_parameters": parameters,
            "learning_rate": config.fit.learning_rate,
            **fitted.metrics,
        }
        return run.publish(folder, kind=KIND, metrics=metrics)
