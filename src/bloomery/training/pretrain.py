"""Pre-training as a stage: tokens and a budget in, a model that its user owns out.

    plan -> build -> loop -> publish (safetensors, config.json, tokenizer: a Hugging Face folder)

Killed at any instant, the same call goes on from its last checkpoint under the plan it had begun with. Finished, it
scores the plan. This module does not know how a step is taken (`loop`) nor how sizes are chosen (`planning`).
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bloomery.core.artifact import Artifact, write_durably
from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import DataError
from bloomery.core.run import Run
from bloomery.core.stage import reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.energy import open_meter
from bloomery.models import Decoder, save_pretrained
from bloomery.tokenizer import PackedRows, TokenizeConfig, Tokenizer, TokenShards, tokenize
from bloomery.training.causal import CausalObjective
from bloomery.training.fit import SPIKE_DEVIATIONS, paced
from bloomery.training.loop import Loop, LoopConfig, Progress
from bloomery.training.objective import Validation
from bloomery.training.optimizers import Optimizers
from bloomery.training.pacing import Allowance
from bloomery.training.parallel.launch import launched
from bloomery.training.parallel.parallel_config import ParallelConfig, check_heads
from bloomery.training.parallel.ray_ranks import on_ray
from bloomery.training.parallel.several import recompute, several
from bloomery.training.parallel.silent_run import SilentRun
from bloomery.training.parallel.world import World, followers, open_world
from bloomery.training.planning.plan import Components, Plan, read_plan
from bloomery.training.planning.planner import plan as make_plan
from bloomery.training.planning.scores import Spent, score
from bloomery.training.planning.spending import validation_batches
from bloomery.training.preflight import preflight as make_preflight
from bloomery.training.pretrain_config import PretrainConfig, plan_request, planned_config, pretrain_inputs
from bloomery.training.schedule import Schedule
from bloomery.training.speed import choose_device, muon_dtype
from bloomery.training.utilisation import utilisation

STAGE = "pretrain"


def pretrain(
    corpus: Artifact,
    tokenizer: Artifact,
    *,
    minutes: float | None = None,
    tokens: Artifact | None = None,
    config: PretrainConfig | None = None,
    tokenize_config: TokenizeConfig | None = None,
    plan: Plan | None = None,
    parallel: ParallelConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
    preflight: bool = True,
) -> Artifact:
    """Train a causal model on a corpus; returns a "model" artifact that is also a Hugging Face folder.

    `minutes` overrides the config's budget, and a `plan` its sizes, steps, batch and learning rates. `tokens` saves
    tokenising when that was done before. An equal call returns the same artifact without training, unless `fresh`.
    `preflight` looks for what would spoil the run before its first step. `parallel` spreads the work over processes and
    is not part of what makes a call equal. Raises ConfigError, DataError, TrainingError.
    """
    workspace = as_workspace(workspace)
    config, parallel = (config or PretrainConfig()).resolved(), parallel or ParallelConfig()
    if minutes is not None:
        config = replace(config, minutes=float(minutes))
    if parallel.ranks > 1 and launched() is None:
        parallel.check(parallel.ranks)
    check_heads(config.num_attention_heads, config.num_key_value_heads, parallel.tensor_ranks)  # 0: not chosen yet
    if tokens is None:
        tokens = tokenize(corpus, tokenizer, config=tokenize_config, workspace=workspace)
    if plan is not None:
        config = planned_config(config, plan, tokens.id, tokenizer.id)
    inputs = pretrain_inputs(config, tokens.id, tokenizer.id)
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    if parallel.engine == "ray":
        paths = [str(one.path.absolute()) for one in (corpus, tokenizer, tokens)]
        settings = {"config": to_dict(config), "plan": plan.to_dict() if plan else None}
        job = {"stage": STAGE, "artifacts": paths, "fresh": fresh, "preflight": preflight, **settings}
        return on_ray(job, parallel, workspace=workspace, device=config.device)
    with open_world(parallel) as world, Run(workspace, inputs, meter=open_meter(others=followers(world))) as run:
        if fresh:
            shutil.rmtree(run.scratch / "checkpoints", ignore_errors=True)
            (run.scratch / "plan.json").unlink(missing_ok=True)
        if world is not None:
            paths = {"tokens": str(tokens.path), "tokenizer": str(tokenizer.path), "scratch": str(run.scratch)}
            how = {"config": to_dict(config), "parallel": to_dict(parallel), "preflight": preflight}
            world.told({"stage": STAGE, **how, **paths})
        threads = torch.get_num_threads()
        try:
            made = _Pretraining(run, config, tokens, Tokenizer.load(tokenizer.path), parallel, world, plan)
            return made.publish(preflight=preflight)
        finally:
            torch.set_num_threads(threads)


def lead_pretrain(job: Mapping[str, Any], workspace: Workspace) -> Artifact:
    """Rank 0's part in `pretrain` where Ray has started it."""
    corpus, tokenizer, tokens = (Artifact.open(Path(path)) for path in job["artifacts"])
    return pretrain(
        corpus,
        tokenizer,
        tokens=tokens,
        config=from_dict(PretrainConfig, job["config"]),
        plan=Plan.from_dict(job["plan"]) if job["plan"] else None,
        parallel=from_dict(ParallelConfig, job["parallel"]),
        workspace=workspace,
        fresh=job["fresh"],
        preflight=job["preflight"],
    )


def follow_pretrain(world: World, job: Mapping[str, Any]) -> None:
    """A follower's part in `pretrain`, which rank 0 has begun."""
    config = from_dict(PretrainConfig, job["config"])
    parallel = from_dict(ParallelConfig, job["parallel"])
    tokens, tokenizer = Artifact.open(Path(job["tokens"])), Tokenizer.load(Path(job["tokenizer"]))
    made = _Pretraining(SilentRun(Path(job["scratch"])), config, tokens, tokenizer, parallel, world)
    made.train(preflight=job["preflight"])


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
        plan: Plan | None = None,
    ) -> None:
        self.run, self.config, self.tokens, self.tokenizer, self.given = run, config, tokens, tokenizer, plan
        self.parallel, self.ranks = parallel, several(world, parallel, device=config.device, seed=config.seed)
        with run.phase("plan"):
            self._kept = self.ranks.told(lambda: (run.scratch / "plan.json").is_file())
            self._is_paced = self.ranks.size > 1 and not self._kept and not config.steps
            self._compares = self.ranks.size == 1 or self._is_paced  # what one process takes was planned
            self.plan = Plan.from_dict(self.ranks.told(lambda: self._plan().to_dict()))
        self._planned = (run.seconds, run.energy_joules) if self.ranks.leads else None
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
            loop.pacing.allowance = self._allowance(resumed=resumed)
            self._checked = make_preflight(loop) if preflight and not resumed else {}
            self._started = self.run.seconds if self.ranks.leads else 0.0
            with self.run.phase("train"):
                final = loop.train()
            return self.ranks.whole(model, lambda: Decoder(self.plan.model)), loop, final, resumed

    def publish(self, *, preflight: bool = True) -> Artifact:
        model, loop, final, resumed = self.train(preflight=preflight)
        self._ended = self.run.seconds
        folder = self.run.new_folder("model")
        save_pretrained(model.to("cpu"), folder)
        self.tokenizer.save(folder)
        spent = self._spent(loop) if not resumed else None  # of a resumed run it is not what was planned
        metrics = {
            **self._metrics(loop, final, resumed, spent),
            **({"preflight": self._checked} if self._checked else {}),
        }
        if final is not None:
            self.run.metrics({"final_validation_bits_per_byte": final.value})
        return self.run.publish(folder, kind="model", metrics=metrics)

    def _plan(self) -> Plan:
        path = self.run.scratch / "plan.json"
        if path.is_file():
            made = _kept(path)
            self.run.event("plan", **made.to_dict(), kept=True)
            return made
        made = self.given
        if made is None:
            request = plan_request(self.config, self.tokens, self.tokenizer, workspace=self.run.workspace)
            say = lambda text: self.run.progress(0, None, unit="steps", doing=text)  # noqa: E731
            made = make_plan(request, meter=self.run.meter, say=say)
        choose_device(made.device)  # a plan may come from another machine
        if not self._is_paced:  # else its steps are not known yet, and a kill would leave those of one process
            self._keep(made)
        self.run.event("plan", **made.to_dict(), kept=False)
        return made

    def _keep(self, plan: Plan) -> None:
        write_durably(self.run.scratch / "plan.json", json.dumps(plan.to_dict(), indent=1).encode())

    def _loop(self, model: Decoder) -> Loop:
        config, plan = self.config, self.plan
        rates = replace(config.optimizer, **plan.learning_rates)
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
            return Optimizers(model, rates, muon_dtype=muon_dtype(plan.precision))

        plan = self._paced(objective, make)
        optimizers = make()
        self.ranks.share(optimizers)
        warmup = min(plan.steps, max(1, round(plan.steps * config.warmup_fraction)))
        decay = min(plan.steps - warmup, round(plan.steps * config.decay_fraction))
        schedule = Schedule(
            total_steps=plan.steps,
            warmup_steps=warmup,
            decay_steps=decay,
            final=config.final_rate,
            first_batch=config.first_batch,
        )
        # Only now: ranks are paced by ordinary rows, and their steps may be others than the plan's.
        short = schedule.batches_before(round(plan.steps * config.short_rows_fraction))
        objective.short_rows = round(short * plan.batch_rows)
        return Loop(
            self.run,
            objective,
            optimizers,
            schedule,
            LoopConfig(
                validate_every_steps=plan.steps // (config.validations + 1) if config.validations else 0,
                validation_batches=validation_batches(plan.steps),
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

    def _allowance(self, *, resumed: bool) -> Allowance | None:
        """The time for a run of minutes; one of so many steps takes what it takes."""
        of, short = self.plan.components, self.config.short_rows_fraction
        if self.config.steps or not of.steps:
            return None

        def elapsed(progress: Progress) -> float:
            if self._planned is not None and not resumed:
                return self.run.seconds - self._planned[0]
            # What a killed attempt took beside its loop is not known: as planned.
            return of.start + progress.seconds + progress.validation_seconds + progress.checkpoint_seconds

        return Allowance(
            seconds=of.total,
            step_seconds=self.plan.seconds_per_step,
            evaluation=of.evaluation,
            checkpoints=of.checkpoints,
            writing=of.writing,
            ordinary_from=math.ceil(self.plan.steps * short),
            elapsed=elapsed,
        )

    def _paced(self, objective: CausalObjective, make: Callable[[], Optimizers]) -> Plan:
        """The plan with as many steps as fit into its minutes when all ranks take them; it was measured on one."""
        plan = self.plan
        if not self._is_paced:
            return plan
        rows = (plan.batch_rows, min(plan.micro_rows, plan.batch_rows // self.ranks.size) or 1)
        measured = paced(objective, make, rows, self.device, plan.precision, self.ranks)
        seconds = self.ranks.told(lambda: measured)
        steps = max(1, int(plan.steps * plan.seconds_per_step / seconds))
        told = f"{self.ranks.size} ranks take {seconds:.3g} s a step, one would {plan.seconds_per_step:.3g} s"
        asked = None
        if self.ranks.leads:
            asked = plan_request(self.config, self.tokens, self.tokenizer, workspace=self.run.workspace)
        known = {} if asked is None else {"law": asked.law, "text_bytes": asked.text_bytes}
        self.plan = plan.paced(steps, seconds, told, **known)
        if self.ranks.leads:
            self._keep(self.plan)
        self.run.note(f"{told}: {steps:,} steps")
        return self.plan

    def _spent(self, loop: Loop) -> Spent:
        """What was spent since there is a plan."""
        progress = loop.progress
        assert self._planned is not None
        parts = Components(
            start=self._started - self._planned[0],
            steps=progress.seconds,
            evaluation=progress.validation_seconds,
            checkpoints=progress.checkpoint_seconds,
            writing=self.run.seconds - self._ended,
        )
        seconds = self.run.seconds - self._planned[0]
        joules = self.run.energy_joules - self._planned[1]
        return Spent(seconds=seconds, joules=joules, parts=parts, steps=progress.step)

    def _metrics(self, loop: Loop, final: Validation | None, resumed: bool, spent: Spent | None) -> dict[str, Any]:
        progress = loop.progress
        reached = final.values["bits_per_byte"] if final else None
        speed = progress.tokens / max(1e-9, progress.seconds)
        precision, device = self.plan.precision, self.device
        used = utilisation(loop.model, speed, self.plan.context_length, precision=precision, device=device)
        self.run.note(used.text)
        return {
            **used.to_dict(),
            "parameters": self.plan.parameters,
            "steps": progress.step,
            "tokens": progress.tokens,
            "training_seconds": progress.seconds,
            "validation_seconds": progress.validation_seconds,
            "tokens_per_second": speed,
            "resumed": resumed,
            "skipped": progress.skipped,
            **({"best_step": progress.best["step"]} if progress.best else {}),
            **({"ranks": self.ranks.size} if self.ranks.size > 1 else {}),
            "validation_bits_per_byte": reached,
            "validation_nats_per_token": final.values["nats_per_token"] if final else None,
            **loop.objective.stats(),
            "plan": self.plan.to_dict(),
            "plan_score": score(self.plan, spent if self._compares else None, bits_per_byte=reached),
            "loss_curve": progress.losses,
            "validation_curve": progress.validations,
        }


@contextlib.contextmanager
def _deterministic(device: torch.device, seed: int) -> Iterator[None]:
    """Seed PyTorch inside and give its random state back after; on a GPU also ask for deterministic kernels."""
    state, before = torch.get_rng_state(), torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.manual_seed(seed)
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
        torch.set_rng_state(state)


def _kept(path: Path) -> Plan:
    """The plan that an interrupted run had; DataError if it cannot be read."""
    try:
        return read_plan(path)
    except DataError as error:
        hint = f"remove {path.parent}: the same command then begins anew"
        raise DataError(error.message, hint=hint) from error
