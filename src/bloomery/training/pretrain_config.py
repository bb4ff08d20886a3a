"""PretrainConfig: what a user may fix of pre-training, and the planner's question and answer in its terms.

This module does not know how a plan is made (see `planning`), nor how a model is trained.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Literal

import numpy as np

from bloomery.core.artifact import Artifact
from bloomery.core.config import check_choices, to_dict
from bloomery.core.errors import ConfigError
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace
from bloomery.energy import EnergyConfig
from bloomery.models import ModelConfig
from bloomery.models.config import every_second_layer
from bloomery.tokenizer import PackedRows, Tokenizer, TokenShards
from bloomery.training.optimizers import OptimizerConfig
from bloomery.training.parts import FAST, FAST_PARTS, PartsConfig, parts_of
from bloomery.training.planning.calibration import find_law
from bloomery.training.planning.plan import MOST_MINUTES, MOST_STEPS, Budget, Plan, PlanRequest
from bloomery.training.planning.shapes import HEAD_DIM, intermediate_size, key_value_heads
from bloomery.training.speed import choose_device

_MOST = {"minutes": MOST_MINUTES, "seed": 2**63 - 1}
"""What a number may be, where it is not MOST_STEPS: more is a slip, and runs over."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """What a user may fix; zero, "" and "auto" leave it to the planner."""

    minutes: float = 5.0
    """Minutes of training on this machine, validation included. Kept to where the machine turns out faster or slower,
    by more or fewer steps in the decay. Ignored when `steps` is given."""
    steps: int = 0
    """Optimiser steps."""
    family: Literal["qwen3", "llama", "bloomery"] = "qwen3"
    """The published family whose format the model has: it runs in transformers, vLLM and llama.cpp. A bloomery is a
    qwen3 with value or bigram embeddings, and runs here alone."""
    value_embeddings: bool = False
    """Of bloomery: every second layer has a token embedding of its own, added to its values."""
    bigram_vocab_size: int = 0
    """Of bloomery: rows of a hashed embedding of pairs of tokens, added to the input; 0: none."""
    parts: PartsConfig = field(default_factory=PartsConfig)
    fast: bool = False
    """The set of parts and of settings that learns fastest here: family bloomery, which runs here alone."""
    hidden_size: int = 0
    """Width; give it together with num_hidden_layers."""
    num_hidden_layers: int = 0
    """Depth."""
    num_attention_heads: int = 0
    """Query heads; 0: one for every 64 of the width."""
    num_key_value_heads: int = 0
    """Key and value heads; 0: half the query heads from 4 on."""
    intermediate_size: int = 0
    """Width of the feed-forward; 0: 8/3 of the width."""
    tie_word_embeddings: bool = False
    """Share the token embedding with the output head."""
    context_length: int = 256
    """Tokens of a row, and of the model's context."""
    batch_rows: int = 0
    """Rows of a batch."""
    micro_rows: int = 0
    """Rows computed at a time; smaller saves memory."""
    learning_rate_scale: float = 0.0
    """Multiplies every learning rate; 0: by what suits the batch and the tokens of the run, where the rates are those
    that are ours."""
    warmup_fraction: float = 0.02
    """Share of the steps in which the learning rate rises."""
    decay_fraction: float = 0.5
    """Share of the steps in which it falls."""
    final_rate: float = 0.0
    """What it falls to, as a share of its peak."""
    first_batch: float = 1.0
    """Share of the batch's rows in the first third of the steps; halfway in the second."""
    short_rows_fraction: float = 0.0
    """Share of the steps at the beginning in which each row is read as four short ones."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """bfloat16 means autocast with float32 weights; auto measures."""
    compile: Literal["auto", "on", "off"] = "auto"
    """torch.compile; auto measures when the run is long enough to gain from it."""
    device: str = ""
    """cpu, cuda or cuda:0; empty takes a GPU when there is one."""
    seed: int = 0
    """Initial weights and the order of the documents."""
    spikes: Literal["roll back", "take"] = "roll back"
    """What is done about a loss or gradient far above those before: back to a sound checkpoint and past the data, or
    nothing. What is not finite is never taken."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints are kept while it trains."""
    keep_best: bool = False
    """The weights of the best validation are what comes out, not the last ones; each validation then covers all that is
    held out."""
    checkpoint_seconds: float = 30.0
    """Seconds between checkpoints: what a power cut costs at most."""
    checkpoint_every_steps: int = 0
    """Steps between checkpoints, beside the seconds."""
    validations: int = 8
    """Validations during the run."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        check_choices(self, where="pretrain")
        for name, value in vars(self).items():
            most = _MOST.get(name, MOST_STEPS)
            if isinstance(value, (int, float)) and not 0 <= value <= most:  # nor need it fit into a float
                raise ConfigError(f'"pretrain.{name}" should be a number from 0 up', hint=f"{most:g} at most")
        if bool(self.hidden_size) != bool(self.num_hidden_layers):
            raise ConfigError("give pretrain.hidden_size and pretrain.num_hidden_layers together, or neither")
        for name in ("warmup_fraction", "decay_fraction", "final_rate", "first_batch", "short_rows_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f'"pretrain.{name}" should be between 0 and 1, not {getattr(self, name):g}')
        if not self.first_batch:
            raise ConfigError('"pretrain.first_batch" should be above 0: a share of the batch')
        if self.warmup_fraction + self.decay_fraction > 1:
            raise ConfigError("pretrain.warmup_fraction and decay_fraction together exceed 1")
        if self.context_length < 8:
            raise ConfigError('"pretrain.context_length" should be at least 8')
        own = self.value_embeddings or self.bigram_vocab_size > 0 or bool(self.parts)
        if self.fast:
            _refuse_beside_fast(self)
        elif (self.family == "bloomery") != own:
            raise ConfigError(
                "value and bigram embeddings, pretrain.parts and pretrain.family=bloomery go together",
                hint="only bloomery runs such a model",
            )
        if self.keep_checkpoints < 1:
            raise ConfigError('"pretrain.keep_checkpoints" should be at least 1')

    @property
    def scaled_rates(self) -> OptimizerConfig:
        """The peaks of all learning rates, scaled as the user asked for."""
        scale = self.learning_rate_scale or 1.0
        return replace(self.optimizer, **{name: rate * scale for name, rate in self.optimizer.rates.items()})

    @property
    def plans_rates(self) -> bool:
        """Whether the learning rates are left to the planner."""
        return not self.learning_rate_scale and self.optimizer.rates == OptimizerConfig().rates

    def resolved(self) -> PretrainConfig:
        """Itself, or with `fast` what that stands for."""
        if not self.fast:
            return self
        return replace(self, fast=False, parts=FAST_PARTS, **FAST)


def _refuse_beside_fast(config: PretrainConfig) -> None:
    """ConfigError for a setting in whose place `fast` would put another one."""
    usual = {one.name: one.default for one in fields(PretrainConfig)}
    for name, value in FAST.items():
        if getattr(config, name) not in (usual[name], value):
            raise ConfigError(
                f'"pretrain.fast" stands for {name} = {value!r}', hint=f"leave one of fast and {name} out"
            )
    if config.parts and config.parts != FAST_PARTS:
        raise ConfigError('"pretrain.fast" stands for a set of parts', hint="leave one of fast and parts out")


def pretrain_inputs(config: PretrainConfig, tokens: str, tokenizer: str) -> StageInputs:
    """What the pre-training stage depends on; `tokens` and `tokenizer` are artifact ids."""
    return StageInputs(
        stage="pretrain", config=to_dict(config.resolved()), parents=(tokens, tokenizer), seed=config.seed
    )


def planned_config(config: PretrainConfig, plan: Plan, tokens: str, tokenizer: str) -> PretrainConfig:
    """`config` with all that a plan has decided. ConfigError for a plan of other data; ids may be "" there."""
    if plan.tokens_artifact not in ("", tokens) or plan.tokenizer_artifact not in ("", tokenizer):
        raise ConfigError("this plan was made for another corpus or tokenizer", hint="bloomery plan, and use that one")
    model, optimizer = plan.model, config.optimizer
    if plan.optimizer is not None and optimizer == OptimizerConfig():
        optimizer = plan.optimizer  # a step was timed with it; what the user has set goes before it
    return replace(
        config,
        steps=plan.steps,
        family=model.model_type,
        value_embeddings=bool(model.value_embedding_layers),
        bigram_vocab_size=model.bigram_vocab_size,
        parts=parts_of(model),
        hidden_size=model.hidden_size,
        num_hidden_layers=model.num_hidden_layers,
        num_attention_heads=model.num_attention_heads,
        num_key_value_heads=model.num_key_value_heads,
        intermediate_size=model.intermediate_size,
        tie_word_embeddings=model.tie_word_embeddings,
        context_length=plan.context_length,
        batch_rows=plan.batch_rows,
        micro_rows=plan.micro_rows,
        learning_rate_scale=1.0,
        optimizer=replace(optimizer, **plan.learning_rates),
        first_batch=plan.first_batch if config.first_batch == 1.0 else config.first_batch,
        short_rows_fraction=config.short_rows_fraction or plan.short_rows_fraction,
        precision=plan.precision,
        compile="on" if plan.compiled else "off",
        device=plan.device,
    )


def plan_request(
    config: PretrainConfig,
    tokens: Artifact,
    tokenizer: Tokenizer,
    *,
    budget: Budget | None = None,
    workspace: Workspace | None = None,
    energy: EnergyConfig | None = None,
) -> PlanRequest:
    """The planner's question for a config, the training split of `tokens` and the tokenizer's vocabulary.

    `budget` is the config's steps or minutes when not given; the law is the one that `workspace` holds of these
    tokens, or ours.
    """
    shards = TokenShards(tokens, "train")
    request = replace(
        request_without_tokens(config, budget=budget, energy=energy, vocab_size=tokenizer.vocab_size),
        tokens=shards.num_tokens,
        text_bytes=shards.text_bytes,
        validation_tokens=TokenShards(tokens, "validation").num_tokens,
        batches=_Batches(shards, config),
    )
    ends = {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_ids}
    request = replace(request, base=replace(request.base, **ends))
    if workspace is None:
        return request
    law, said = find_law(workspace, tokens.id, request)
    return replace(request, law=law, reasons=(said,), folder=workspace.scratch)


class _Batches:
    """The rows that a run will read, from its beginning; opened when the first are wanted."""

    def __init__(self, shards: TokenShards, config: PretrainConfig) -> None:
        self.shards, self.context_length, self.seed = shards, config.context_length, config.seed
        self._rows: PackedRows | None = None

    def __call__(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        if self._rows is None:
            self._rows = PackedRows(self.shards, context_length=self.context_length, seed=self.seed)
        return self._rows.next_batch(rows)


def request_without_tokens(
    config: PretrainConfig, *, vocab_size: int, budget: Budget | None = None, energy: EnergyConfig | None = None
) -> PlanRequest:
    """What a config says of the planner's question; nothing is known of the text."""
    config = config.resolved()
    return PlanRequest(
        tokens=0,
        text_bytes=0,
        vocab_size=vocab_size,
        budget=budget or (Budget(steps=config.steps) if config.steps else Budget(minutes=config.minutes)),
        base=sized(config, vocab_size=vocab_size),
        fixed_size=config.hidden_size > 0,
        batch_rows=config.batch_rows,
        micro_rows=config.micro_rows,
        context_length=config.context_length,
        precision=config.precision,
        compile=config.compile,
        optimizer=config.scaled_rates,
        scale_rates=config.plans_rates,
        device=choose_device(config.device),
        validations=config.validations,
        checkpoint_seconds=config.checkpoint_seconds,
        checkpoint_every_steps=config.checkpoint_every_steps,
        whole_validations=config.keep_best,
        first_batch=config.first_batch,
        short_rows_fraction=config.short_rows_fraction,
        warmup_fraction=config.warmup_fraction,
        decay_fraction=config.decay_fraction,
        energy=energy or EnergyConfig(),
    )


def sized(config: PretrainConfig, *, vocab_size: int) -> ModelConfig:
    """The sizes that were asked for, or the smallest ones as a placeholder that the planner replaces. ConfigError for
    sizes that no model has."""
    hidden, layers = config.hidden_size or 128, config.num_hidden_layers or 2
    heads = config.num_attention_heads or max(1, hidden // HEAD_DIM)
    if hidden % heads:
        raise ConfigError(f"pretrain.hidden_size {hidden} is not a multiple of {heads} heads")
    return ModelConfig(
        model_type=config.family,
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=config.num_key_value_heads or key_value_heads(heads),
        intermediate_size=config.intermediate_size or intermediate_size(hidden, gated=not config.parts.squared_relu),
        head_dim=hidden // heads,
        max_position_embeddings=config.context_length,
        tie_word_embeddings=config.tie_word_embeddings,
        value_embedding_layers=every_second_layer(layers) if config.value_embeddings else (),
        bigram_vocab_size=config.bigram_vocab_size,
        **(config.parts.options() if config.family == "bloomery" else {}),
    )
