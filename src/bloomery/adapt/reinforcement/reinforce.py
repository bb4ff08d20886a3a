"""Reinforcement as a stage: a model, questions and what answers are worth in, a model that gives worthier answers out.

Killed at any instant, the same call goes on from its last checkpoint. This module does not know any one loss.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bloomery.adapt.preference.encoded import encode_prompt
from bloomery.adapt.preference.preferences import prompt_of, read_rows
from bloomery.adapt.reinforcement.config import ReinforceConfig
from bloomery.adapt.reinforcement.objective import PolicyObjective, Question
from bloomery.adapt.reinforcement.rewards import Reward, Weighted, all_rewards
from bloomery.adapt.reinforcement.rollouts import Drawer
from bloomery.adapt.starting import STAGE, Start, begin_anew, split
from bloomery.core.artifact import Artifact, sha256_file
from bloomery.core.config import digest, to_dict
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.energy import open_meter
from bloomery.models import Decoder
from bloomery.training.fit import fit
from bloomery.training.loader import ExampleLoader
from bloomery.training.speed import choose_device

_RATE = 0.1
"""Of the learning rate of examples."""


def reinforce(
    model: Artifact,
    data: str | Path | Sequence[Mapping[str, Any]],
    *,
    config: ReinforceConfig | None = None,
    rewards: Sequence[Reward] = (),
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """Train a model by what its answers are worth; returns an "adapter", or a "model" where all weights are
    trained, whose parent is the model that it began with.

    `data` are rows, or a JSON or JSONL file of rows, with `prompt` (or `instruction`, `messages`) and what rewards look
    for: `answer`, `schema`. `rewards` are a user's own functions, beside those that the config names; their source text
    is part of what makes two calls equal. Raises ConfigError, DataError, TrainingError.
    """
    workspace, config = as_workspace(workspace), config or ReinforceConfig()
    if not isinstance(data, (str, Path)):
        rows, fingerprint = [dict(row) for row in data], digest([dict(row) for row in data])
    else:
        path = Path(data).expanduser()
        if not path.is_file():
            raise DataError(f"there is no file {path}")
        rows, fingerprint = list(read_rows(path)), sha256_file(path)
    weighted = all_rewards(config.rewards, rewards)
    inputs = StageInputs(
        stage=STAGE,
        config={"method": "grpo", **to_dict(config), "own_rewards": [_identity(one) for one in rewards]},
        parents=(model.id,),
        seed=config.fit.seed,
        fingerprint=fingerprint,
    )
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    with Run(workspace, inputs, meter=open_meter()) as run:
        if fresh:
            begin_anew(run)
        lora = config.lora if config.weights == "lora" else None
        return _published(run, config, Start.of(model, lora, seed=config.fit.seed), rows, weighted)


def _published(
    run: Run, config: ReinforceConfig, start: Start, rows: Sequence[Mapping[str, Any]], rewards: Sequence[Weighted]
) -> Artifact:
    torch.manual_seed(config.fit.seed)
    decoder = start.decoder.to(choose_device(config.fit.device))
    questions, left_out = _questions(start, rows, config)
    if left_out:
        run.note(f"{left_out:,} prompts leave no room for an answer and were left out")
    held, kept = split([one.prompt for one in questions], config.validation_fraction, config.fit.seed)
    loader = ExampleLoader(
        [questions[number] for number in kept],
        [questions[number] for number in held],
        rows=config.fit.batch_rows // config.group,
        seed=config.fit.seed,
    )
    longest = max(len(one.prompt) for one in questions) + config.max_new_tokens + 16
    drawer = Drawer(
        decoder,
        start.tokenizer,
        max_new_tokens=config.max_new_tokens,
        cache_tokens=longest * max(config.fit.batch_rows, 64),
        continues=start.tokenizer.chat_template is None,
    )
    try:
        objective = PolicyObjective(
            decoder,
            loader,
            drawer,
            rewards,
            config,
            reference=_reference(start) if config.kl_weight else None,
            pad_id=start.pad_id,
        )
        can = objective.can_validate()
        before = objective.validate(None, decoder.output_weight.device, "float32") if can else None
        steps_an_epoch = len(kept) / loader.rows * config.iterations
        fitting = start.rated(config.fit, _RATE)
        fitted = fit(run, objective, fitting, steps_an_epoch=steps_an_epoch, stage=STAGE, preflight=False)
    finally:
        drawer.close()
    first = {} if before is None else {f"before_{name}": value for name, value in before.values.items()}
    metrics = {
        "method": "grpo",
        "weights": config.weights,
        "learning_rate": fitting.learning_rate,
        "left_out": left_out,
        **first,
        **fitted.metrics,
    }
    return start.publish(run, metrics)


def _reference(start: Start) -> Decoder:
    """The model as it is now: with adapters the same one, which switches them off, else a copy."""
    return start.decoder if start.adapted else copy.deepcopy(start.decoder).requires_grad_(False).eval()


def _questions(start: Start, rows: Sequence[Mapping[str, Any]], config: ReinforceConfig) -> tuple[list[Question], int]:
    """Encoded prompts with their rows, and how many leave no room for an answer."""
    found, left_out = [], 0
    for number, row in enumerate(rows, 1):
        prompt = prompt_of({**row, "completion": ""} if "messages" in row else row, f"row {number}")
        if prompt is None:
            there = ", ".join(map(str, row))
            hint = (
                f"a row is {{prompt}} or {{messages}}, and what its reward is worked out from; there is: {there:.100}"
            )
            raise DataError(f'row {number} has no "prompt"', hint=hint)
        ids = encode_prompt(start.tokenizer, prompt)
        if len(ids) + config.max_new_tokens > start.decoder.context_length:
            left_out += 1
        else:
            found.append(Question(ids, row))
    if not found:
        raise DataError("no prompt leaves room for an answer", hint="a smaller max_new_tokens")
    return found, left_out


def _identity(reward: Reward) -> str:
    """A user's reward by its name and its source text."""
    try:
        source = inspect.getsource(reward if inspect.isfunction(reward) else type(reward))
    except (OSError, TypeError):
        raise ConfigError(
            f"the source of the reward {reward.name} is not to be had, so runs could not be told apart",
            hint="define it in a file",
        ) from None
    return f"{reward.name} {hashlib.sha256(source.encode()).hexdigest()[:16]}"
