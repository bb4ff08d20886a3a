"""Pre-training as a stage: tokens and a budget in, a model that its user owns out.

    plan -> build -> loop -> publish (safetensors, config.json, tokenizer: a Hugging Face folder)

Killed at any instant, the same call goes on from its last checkpoint under the plan it had begun with. This
module does not know how a step is taken (`loop`) nor how sizes are chosen (`planner`).
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from bloomery.core.artifact import Artifact, write_durably
from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.energy import open_meter
from bloomery.models import Decoder, ModelConfig, save_pretrained
from bloomery.models.config import every_second_layer
from bloomery.tokenizer import PackedRows, TokenizeConfig, Tokenizer, TokenShards, tokenize
from bloomery.training.causal import CausalObjective
from bloomery.training.fit import SPIKE_DEVIATIONS, paced
from bloomery.training.loop import Loop, LoopConfig
from bloomery.training.objective import Validation
from bloomery.training.optimizers import OptimizerConfig, Optimizers
from bloomery.training.parallel.parallel_config import ParallelConfig
from bloomery.training.parallel.several import recompute, several
from bloomery.training.parallel.silent_run import SilentRun
from bloomery.training.parallel.world import World, followers, open_world
from bloomery.training.planner import HEAD_DIM, Plan, PlanRequest, intermediate_size, key_value_heads, plan
from bloomery.training.preflight import preflight as make_preflight
from bloomery.training.schedule import Schedule
from bloomery.training.speed import choose_device, muon_dtype


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """What a user may fix; zero, "" and "auto" leave it to the planner."""

    minutes: float = 5.0
    """Minutes of training on this machine, validation included. Ignored when `steps` is given."""
    steps: int = 0
    """Optimiser steps."""
    family: Literal["qwen3", "llama", "bloomery"] = "qwen3"
    """The published family whose format the model has: it runs in transformers, vLLM and llama.cpp. A bloomery is a
    qwen3 with value or bigram embeddings, and runs here alone."""
    value_embeddings: bool = False
    """Of bloomery: every second layer has a token embedding of its own, added to its values."""
    bigram_vocab_size: int = 0
    """Of bloomery: rows of a hashed embedding of pairs of tokens, added to the input; 0: none."""
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
    learning_rate_scale: float = 1.0
    """Multiplies every learning rate."""
    warmup_fraction: float = 0.02
    """Share of the steps in which the learning rate rises."""
    decay_fraction: float = 0.5
    """Share of the steps in which it falls."""
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
        if bool(self.hidden_size) != bool(self.num_hidden_layers):
            raise ConfigError("give pretrain.hidden_size and pretrain.num_hidden_layers together, or neither")
        for name in ("warmup_fraction", "decay_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f'"pretrain.{name}" should be between 0 and 1, not {getattr(self, name):g}')
        if self.warmup_fraction + self.decay_fraction > 1:
            raise ConfigError("pretrain.warmup_fraction and decay_fraction together exceed 1")
        if self.context_length < 8:
            raise ConfigError('"pretrain.context_length" should be at least 8')
        for name in ("minutes", "steps", "hidden_size", "num_hidden_layers", "batch_rows", "micro_rows", "validations"):
            if getattr(self, name) < 0:
                raise ConfigError(f'"pretrain.{name}" cannot be negative')
        if (self.family == "bloomery") != (self.value_embeddings or self.bigram_vocab_size > 0):
            raise ConfigError(
                "value and bigram embeddings and pretrain.family=bloomery go together",
                hint="only bloomery runs such a model",
            )
        if self.keep_checkpoints < 1:
            raise ConfigError('"pretrain.keep_checkpoints" should be at least 1')
        if not self.learning_rate_scale > 0:
            raise ConfigError('"pretrain.learning_rate_scale" should be above 0')


def pretrain_inputs(config: PretrainConfig, tokens: str, tokenizer: str) -> StageInputs:
    """What the pre-training stage depends on; `tokens` and `tokenizer` are artifact ids."""
    return StageInputs(stage="pretrain", config=to_dict(config), parents=(tokens, tokenizer), seed=config.seed)


def pretrain(
    corpus: Artifact,
    tokenizer: Artifact,
    *,
    minutes: float | None = None,
    tokens: Artifact | None = None,
    config: PretrainConfig | None = None,
    tokenize_config: TokenizeConfig | None = None,
    parallel: ParallelConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
    preflight: bool = True,
) -> Artifact:
    """Train a causal model on a corpus; returns a "model" artifact that is also a Hugging Face folder.

    `minutes` overrides the config's budget. `tokens` saves tokenising when that was done before. An equal call
    returns the same artifact without training, unless `fresh`. `preflight` looks for what would spoil the run before
    its first step. `parallel` spreads the work over processes and is not part of what makes a call equal. Raises
    ConfigError, DataError, TrainingError.
    """
    workspace = as_workspace(workspace)
    config, parallel = config or PretrainConfig(), parallel or ParallelConfig()
    if minutes is not None:
        config = replace(config, minutes=float(minutes))
    if tokens is None:
        tokens = tokenize(corpus, tokenizer, config=tokenize_config, workspace=workspace)
    inputs = pretrain_inputs(config, tokens.id, tokenizer.id)
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    with open_world(parallel) as world, Run(workspace, inputs, meter=open_meter(others=followers(world))) as run:
        if fresh:
            shutil.rmtree(run.scratch / "checkpoints", ignore_errors=True)
            (run.scratch / "plan.json").unlink(missing_ok=True)
        if world is not None:
            paths = {"tokens": str(tokens.path), "tokenizer": str(tokenizer.path), "scratch": str(run.scratch)}
            world.told({"stage": "pretrain", "config": to_dict(config), "parallel": to_dict(parallel), **paths})
        return _Pretraining(run, config, tokens, Tokenizer.load(tokenizer.path), parallel, world).publish(
            preflight=preflight
        )


def follow_pretrain(world: World, job: Mapping[str, Any]) -> None:
    """A follower's part in `pretrain`, which rank 0 has begun."""
    config = from_dict(PretrainConfig, job["config"])
    parallel = from_dict(ParallelConfig, job["parallel"])
    tokens, tokenizer = Artifact.open(Path(job["tokens"])), Tokenizer.load(Path(job["tokenizer"]))
    _Pretraining(SilentRun(Path(job["scratch"])), config, tokens, tokenizer, parallel, world).train()


def plan_request(config: PretrainConfig, tokens: Artifact, tokenizer: Tokenizer) -> PlanRequest:
    """The planner's question for a config, the training split of `tokens` and the tokenizer's vocabulary."""
    shards = TokenShards(tokens, "train")
    base = _sized(
        config, vocab_size=tokenizer.vocab_size, bos_token_id=tokenizer.bos_id, eos_token_id=tokenizer.eos_ids
    )
    return PlanRequest(
        tokens=shards.num_tokens,
        text_bytes=shards.text_bytes,
        vocab_size=tokenizer.vocab_size,
        minutes=config.minutes,
        base=base,
        fixed_size=config.hidden_size > 0,
        steps=config.steps,
        batch_rows=config.batch_rows,
        micro_rows=config.micro_rows,
        context_length=config.context_length,
        precision=config.precision,
        compile=config.compile,
        learning_rate=config.optimizer.matrix_lr * config.learning_rate_scale,
        device=choose_device(config.device),
    )


class _Pretraining:
    """One run of the stage: the plan is kept in scratch, so that a resumed run follows the one it began with."""

    def __init__(
        self,
        run: Run,
        config: PretrainConfig,
        tokens: Artifact,
        tokenizer: Tokenizer,
        parallel: ParallelConfig,
        world: World | None = None,
    ) -> None:
        self.run, self.config, self.tokens, self.tokenizer = run, config, tokens, tokenizer
        self.parallel, self.ranks = parallel, several(world, parallel, device=config.device, seed=config.seed)
        with run.phase("plan"):
            self._kept = self.ranks.told(lambda: (run.scratch / "plan.json").is_file())
            self.plan = Plan.from_dict(self.ranks.told(lambda: self._plan().to_dict()))
        self.device = self.ranks.device(torch.device(self.plan.device))
        torch.set_num_threads(self.ranks.threads(self.plan.threads))

    def train(self, *, preflight: bool = False) -> tuple[Decoder, Loop, Validation | None, bool]:
        """The trained model, whole on rank 0; its loop, the last validation, and whether it went on from an earlier
        attempt."""
        with _deterministic(self.device, self.config.seed), self.ranks.guarded():
            model = Decoder(self.plan.model).to(self.device)
            if self.parallel.recompute:
                recompute(model)
            loop = self._loop(model)
            resumed = loop.resume()
            self._checked = make_preflight(loop) if preflight and not resumed else {}
            with self.run.phase("train"):
                final = loop.train()
            return self.ranks.whole(model, lambda: Decoder(self.plan.model)), loop, final, resumed

    def publish(self, *, preflight: bool = True) -> Artifact:
        model, loop, final, resumed = self.train(preflight=preflight)
        folder = self.run.new_folder("model")
        save_pretrained(model.to("cpu"), folder)
        self.tokenizer.save(folder)
        metrics = {
            **self._metrics(loop, final, resumed),
            **({"preflight": self._checked} if self._checked else {}),
        }
        if final is not None:
            self.run.metrics({"final_validation_bits_per_byte": final.value})
        return self.run.publish(folder, kind="model", metrics=metrics)

    def _plan(self) -> Plan:
        path = self.run.scratch / "plan.json"
        if path.is_file():
            made = Plan.from_dict(json.loads(path.read_text(encoding="utf-8")))
            self.run.event("plan", **made.to_dict(), kept=True)
            return made
        request = plan_request(self.config, self.tokens, self.tokenizer)
        made = plan(request, say=lambda text: self.run.progress(0, None, unit="steps", doing=text))
        write_durably(path, json.dumps(made.to_dict(), indent=1).encode())
        self.run.event("plan", **made.to_dict(), kept=False)
        return made

    def _loop(self, model: Decoder) -> Loop:
        config, plan = self.config, self.plan
        rates = config.optimizer
        scaled = {n: getattr(rates, n) * config.learning_rate_scale for n in vars(rates) if n.endswith("_lr")}
        hidden_states = self.ranks.compiled(model, model.hidden_states) if plan.compiled else None
        rows = PackedRows(TokenShards(self.tokens, "train"), context_length=plan.context_length, seed=config.seed)
        objective = CausalObjective(
            model,
            rows,
            TokenShards(self.tokens, "validation"),
            validation_rows=min(plan.batch_rows, 64),
            hidden_states=hidden_states,
        )
        self.ranks.attach(objective)

        def make() -> Optimizers:
            return Optimizers(model, replace(rates, **scaled), muon_dtype=muon_dtype(plan.precision))

        plan = self._paced(objective, make)
        optimizers = make()
        self.ranks.share(optimizers)
        warmup = min(plan.steps, max(1, round(plan.steps * config.warmup_fraction)))
        decay = min(plan.steps - warmup, round(plan.steps * config.decay_fraction))
        return Loop(
            self.run,
            objective,
            optimizers,
            Schedule(total_steps=plan.steps, warmup_steps=warmup, decay_steps=decay),
            LoopConfig(
                validate_every_steps=plan.steps // (config.validations + 1) if config.validations else 0,
                validation_batches=max(1, min(8, plan.steps // 50)),
                checkpoint_seconds=config.checkpoint_seconds,
                checkpoint_every_steps=config.checkpoint_every_steps,
                keep_checkpoints=config.keep_checkpoints,
                keep_best=config.keep_best,
                spike_deviations=SPIKE_DEVIATIONS if config.spikes == "roll back" else 0.0,
            ),
            batch_rows=plan.batch_rows,
            micro_rows=plan.micro_rows,
            precision=plan.precision,
            device=self.device,
            ranks=self.ranks,
        )

    def _paced(self, objective: CausalObjective, make: Callable[[], Optimizers]) -> Plan:
        """The plan with as many steps as fit into its minutes when all ranks take them; it was measured on one."""
        plan = self.plan
        if self.ranks.size == 1 or self._kept or self.config.steps:
            return plan
        rows = (plan.batch_rows, min(plan.micro_rows, plan.batch_rows // self.ranks.size) or 1)
        measured = paced(objective, make, rows, self.device, plan.precision, self.ranks)
        seconds = self.ranks.told(lambda: measured)
        steps = max(1, int(plan.steps * plan.seconds_per_step / seconds))
        told = f"{self.ranks.size} ranks take {seconds:.3g} s a step, one would {plan.seconds_per_step:.3g} s"
        self.plan = replace(plan, steps=steps, seconds_per_step=seconds, reasons=(*plan.reasons, told))
        if self.ranks.leads:
            write_durably(self.run.scratch / "plan.json", json.dumps(self.plan.to_dict(), indent=1).encode())
        self.run.note(f"{told}: {steps:,} steps")
        return self.plan

    def _metrics(self, loop: Loop, final: Validation | None, resumed: bool) -> dict[str, Any]:
        progress = loop.progress
        return {
            "parameters": self.plan.parameters,
            "steps": progress.step,
            "tokens": progress.tokens,
            "training_seconds": progress.seconds,
            "validation_seconds": progress.validation_seconds,
            "tokens_per_second": progress.tokens / max(1e-9, progress.seconds),
            "resumed": resumed,
            "skipped": progress.skipped,
            **({"best_step": progress.best["step"]} if progress.best else {}),
            **({"ranks": self.ranks.size} if self.ranks.size > 1 else {}),
            "validation_bits_per_byte": final.values["bits_per_byte"] if final else None,
            "validation_nats_per_token": final.values["nats_per_token"] if final else None,
            **loop.objective.stats(),
            "plan": self.plan.to_dict(),
            "loss_curve": progress.losses,
            "validation_curve": progress.validations,
        }


def _sized(
    config: PretrainConfig, *, vocab_size: int, bos_token_id: int | None, eos_token_id: tuple[int, ...]
) -> ModelConfig:
    """The sizes that were asked for, or the smallest ones as a placeholder that the planner replaces."""
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
        intermediate_size=config.intermediate_size or intermediate_size(hidden),
        head_dim=hidden // heads,
        max_position_embeddings=config.context_length,
        tie_word_embeddings=config.tie_word_embeddings,
        value_embedding_layers=every_second_layer(layers) if config.value_embeddings else (),
        bigram_vocab_size=config.bigram_vocab_size,
        bos_token_id=bos_token_id,
        eos_token_id=eos_token_id,
    )


@contextlib.contextmanager
def _deterministic(device: torch.device, seed: int) -> Iterator[None]:
    """Seed PyTorch inside and give its random state back after; on a GPU also ask for deterministic kernels."""
    state, before = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    torch.manual_seed(seed)
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.set_rng_state(state)
