"""Training as a stage, for every objective: a corpus of texts or pictures in, a model that its user owns out.

    tokenizer, tokens or examples -> build, or start from a model -> fit -> publish

`pretrain` plans a causal model's sizes for a budget; here they are given. Killed at any instant, the same call goes on
from its last checkpoint. This module does not know how a step is taken (`fit`, `loop`) nor any one loss.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bloomery.core.artifact import Artifact, write_durably
from bloomery.core.config import digest, from_dict, to_dict
from bloomery.core.errors import DataError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.corpus import PICTURES
from bloomery.energy import open_meter
from bloomery.tokenizer import (
    TokenizeConfig,
    Tokenizer,
    TokenizerConfig,
    TokenizerPair,
    tokenize,
    train_tokenizer,
)
from bloomery.tokenizer.special import PLAIN_PICTURE_TEMPLATE
from bloomery.training.building import build, rebuild
from bloomery.training.fit import Fitted, fit
from bloomery.training.materials import Materials, objective_for
from bloomery.training.objective import Objective
from bloomery.training.parallel.parallel_config import ParallelConfig
from bloomery.training.parallel.ranks import Ranks
from bloomery.training.parallel.ray_ranks import on_ray
from bloomery.training.parallel.several import recompute, several
from bloomery.training.parallel.silent_run import SilentRun
from bloomery.training.parallel.world import World, followers, open_world
from bloomery.training.picture_building import build_seeing, image_size, processor, rebuild_seeing
from bloomery.training.publishing import save_model
from bloomery.training.suitable import check
from bloomery.training.train_config import ROWS, TrainConfig

STAGE = "train"
_VERSION, _CAPTIONS_VERSION = 1, 2


def train_inputs(
    config: TrainConfig, corpus: str, tokenizer: str, start: str, target: str = "", *, fingerprint: str = ""
) -> StageInputs:
    """What the stage depends on: artifact ids, "" where there is none: `start` of the model to begin with, `target` of
    the targets' own tokenizer; and the `fingerprint` of tokens."""
    parents = tuple(identity for identity in (corpus, tokenizer, start, target) if identity)
    return StageInputs(
        stage=STAGE,
        config=to_dict(config),
        parents=parents,
        seed=config.fit.seed,
        fingerprint=fingerprint,
        version=_CAPTIONS_VERSION if config.objective == "captions" else _VERSION,
    )


def train(
    corpus: Artifact,
    *,
    config: TrainConfig | None = None,
    start: Artifact | None = None,
    tokenizer: Artifact | None = None,
    target_tokenizer: Artifact | None = None,
    tokenizer_config: TokenizerConfig | None = None,
    minutes: float | None = None,
    parallel: ParallelConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
    preflight: bool = True,
) -> Artifact:
    """Train a model on a corpus; returns an artifact of the kind that the objective makes.

    `start` is a model artifact to begin with, whose tokenizers are used; otherwise the model has random weights and
    `tokenizer`, or one that is trained on the corpus. `target_tokenizer` is what a recurrent net writes with, if not
    the same; it is trained, too, where the config has a `target_vocab_size`. `minutes` overrides the config's budget.
    `parallel` spreads the work over processes. An equal call returns the same artifact without training, unless
    `fresh`. `preflight` looks for what would spoil the run before its first step. Raises ConfigError, DataError,
    TrainingError.
    """
    workspace = as_workspace(workspace)
    config, parallel = config or TrainConfig(), parallel or ParallelConfig()
    if minutes is not None:
        config = replace(config, fit=replace(config.fit, minutes=float(minutes), steps=0, epochs=0.0))
    check(config, corpus, start)
    given = (tokenizer, target_tokenizer)
    tokenizer, target_tokenizer = _made_tokenizers(config, corpus, start, tokenizer_config, workspace, given)
    tokens = _tokens(config, corpus, tokenizer, workspace)
    parents = [one.id if one else "" for one in (corpus, tokenizer, start, target_tokenizer)]
    inputs = train_inputs(config, *parents, fingerprint=digest(tokens.id) if tokens else "")
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    if parallel.engine == "ray":
        given = (corpus, start, tokenizer, target_tokenizer)
        paths = [str(one.path.absolute()) if one else "" for one in given]
        settings = {"config": to_dict(config), "fresh": fresh, "preflight": preflight}
        job = {"stage": STAGE, "artifacts": paths, **settings}
        return on_ray(job, parallel, workspace=workspace, device=config.fit.device)
    with open_world(parallel) as world, Run(workspace, inputs, meter=open_meter(others=followers(world))) as run:
        if fresh:
            shutil.rmtree(run.scratch / "checkpoints", ignore_errors=True)
            (run.scratch / "fit.json").unlink(missing_ok=True)
        given = (corpus, tokens, start, tokenizer, target_tokenizer)
        if world is not None:
            paths = [str(one.path) if one else "" for one in given]
            settings = {"config": to_dict(config), "parallel": to_dict(parallel), "preflight": preflight}
            world.told({"stage": STAGE, "scratch": str(run.scratch), "artifacts": paths, **settings})
        return _training(run, config, given, parallel, world).publish(preflight=preflight)


def lead_train(job: Mapping[str, Any], workspace: Workspace) -> Artifact:
    """Rank 0's part in `train` where Ray has started it."""
    corpus, start, tokenizer, target = (Artifact.open(Path(path)) if path else None for path in job["artifacts"])
    assert corpus is not None
    return train(
        corpus,
        start=start,
        tokenizer=tokenizer,
        target_tokenizer=target,
        config=from_dict(TrainConfig, job["config"]),
        parallel=from_dict(ParallelConfig, job["parallel"]),
        workspace=workspace,
        fresh=job["fresh"],
        preflight=job["preflight"],
    )


def follow_train(world: World, job: Mapping[str, Any]) -> None:
    """A follower's part in `train`, which rank 0 has begun."""
    config, parallel = from_dict(TrainConfig, job["config"]), from_dict(ParallelConfig, job["parallel"])
    corpus, *others = (Artifact.open(Path(path)) if path else None for path in job["artifacts"])
    assert corpus is not None
    training = _training(SilentRun(Path(job["scratch"])), config, (corpus, *others), parallel, world)
    training.train(preflight=job["preflight"])


def _training(
    run: Run,
    config: TrainConfig,
    given: tuple[Artifact, *tuple[Artifact | None, ...]],
    parallel: ParallelConfig,
    world: World | None,
) -> _Training:
    """`given` are the corpus, its tokens, the model to begin with, and the tokenizers of texts and of targets."""
    corpus, tokens, start, tokenizer, target = given
    codecs = _codecs(config, corpus, tokenizer, target)
    ranks = several(world, parallel, device=config.fit.device, seed=config.fit.seed)
    return _Training(run, config, corpus, tokens, start, codecs, parallel, ranks)


def prepare(
    corpus: Artifact,
    config: TrainConfig,
    *,
    tokenizer: Artifact | None = None,
    target_tokenizer: Artifact | None = None,
    start: Artifact | None = None,
    tokenizer_config: TokenizerConfig | None = None,
    workspace: Workspace | str | Path | None = None,
) -> tuple[Objective, Materials]:
    """The objective as `train` would build it, with its material: what `bloomery inspect batch` shows."""
    workspace = as_workspace(workspace)
    check(config, corpus, start)
    made = _made_tokenizers(config, corpus, start, tokenizer_config, workspace, (tokenizer, target_tokenizer))
    codecs = _codecs(config, corpus, *made)
    materials = Materials.of(config, corpus, _tokens(config, corpus, made[0], workspace), *codecs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.fit.seed)
        model, materials = _model(config, corpus, start, materials)
    return objective_for(config, model, materials), materials


def _made_tokenizers(
    config: TrainConfig,
    corpus: Artifact,
    start: Artifact | None,
    tokenizer_config: TokenizerConfig | None,
    workspace: Workspace,
    given: tuple[Artifact | None, Artifact | None],
) -> tuple[Artifact | None, Artifact | None]:
    """The artifacts of the tokenizer and, if there is another for targets, of that: given, the start's, or trained."""
    if start is not None:
        return start, None
    tokenizer, target = given
    settings = tokenizer_config or TokenizerConfig()
    if tokenizer is None and reads_text(config, corpus):
        tokenizer = train_tokenizer(corpus, config=config.tokenizer(settings), workspace=workspace)
    if target is None and (own := config.target_tokenizer(settings)) is not None:
        target = train_tokenizer(corpus, config=own, workspace=workspace)
    return tokenizer, target


def _codecs(
    config: TrainConfig, corpus: Artifact, tokenizer: Artifact | None, target: Artifact | None
) -> tuple[Tokenizer | None, Tokenizer | None]:
    """The tokenizer, and that of targets where they have their own."""
    if tokenizer is None or not reads_text(config, corpus):
        return None, None
    pair = TokenizerPair.load(tokenizer.path)
    if target is not None:
        return pair.source, Tokenizer.load(target.path)
    return pair.source, None if pair.shared else pair.target


def reads_text(config: TrainConfig, corpus: Artifact) -> bool:
    """Whether an objective on this corpus needs a tokenizer."""
    return corpus.kind != PICTURES or config.objective not in ("classes", "values")


def _tokens(config: TrainConfig, corpus: Artifact, tokenizer: Artifact | None, workspace: Workspace) -> Artifact | None:
    if config.objective not in ROWS or tokenizer is None:
        return None
    tokenizing = TokenizeConfig(context_length=config.context_length)
    return tokenize(corpus, tokenizer, config=tokenizing, workspace=workspace)


def _model(
    config: TrainConfig, corpus: Artifact, start: Artifact | None, materials: Materials
) -> tuple[torch.nn.Module, Materials]:
    """The model, and the materials in the size that it reads."""
    count, codec = len(materials.labels) or 1, materials.tokenizer
    sizes: dict[str, Any] = {"context_length": config.context_length, "num_labels": count}
    if materials.pictures:
        if start is not None:
            model = rebuild_seeing(config.objective, start.path, num_labels=count)
        else:
            model = build_seeing(config.objective, config.net, codec, **sizes)
        return model, materials.with_pictures(config, corpus, image_size(model, config.net))
    assert codec is not None
    if start is not None:
        return rebuild(config.objective, start.path, codec, num_labels=count), materials
    return build(config.objective, config.net, codec, target=materials.target, **sizes), materials


class _Training:
    """One run of the stage."""

    def __init__(
        self,
        run: Run,
        config: TrainConfig,
        corpus: Artifact,
        tokens: Artifact | None,
        start: Artifact | None,
        codecs: tuple[Tokenizer | None, Tokenizer | None],
        parallel: ParallelConfig,
        ranks: Ranks,
    ) -> None:
        self.parallel, self.ranks = parallel, ranks
        self.run, self.config, self.corpus, self.start = run, config, corpus, start
        with run.phase("read"):
            self.materials = Materials.of(config, corpus, tokens, *codecs)
        if self.materials.left_out:
            run.note(f"{self.materials.left_out:,} examples are left out: too long, or empty")

    def train(self, *, preflight: bool = False) -> tuple[torch.nn.Module, Fitted]:
        """The trained model, whole on rank 0, and figures of the run."""
        threads = torch.get_num_threads()
        with torch.random.fork_rng(devices=[]), self.ranks.guarded():
            torch.set_num_threads(self.ranks.threads(threads))
            torch.manual_seed(self.config.fit.seed)
            model, self.materials = _model(self.config, self.corpus, self.start, self.materials)
            if self.parallel.recompute:
                recompute(model)
            objective = objective_for(self.config, model, self.materials)
            steps = self.materials.steps_an_epoch(self.config.fit.batch_rows)
            fitted = fit(
                self.run,
                objective,
                self.config.fit,
                steps_an_epoch=steps,
                stage=f"{STAGE}.fit",
                preflight=preflight,
                ranks=self.ranks,
            )
            model = self.ranks.whole(model, lambda: _model(self.config, self.corpus, self.start, self.materials)[0])
        torch.set_num_threads(threads)
        return model, fitted

    def publish(self, *, preflight: bool = True) -> Artifact:
        model, fitted = self.train(preflight=preflight)
        model = model.to("cpu").eval()
        folder = self.run.new_folder("model")
        kind = save_model(model, folder, labels=self.materials.labels)
        source, target = self.materials.tokenizer, self.materials.target
        if source is not None and source.image_id is not None and self.config.objective == "captions":
            source = source.with_chat_template(PLAIN_PICTURE_TEMPLATE)
        if source is not None:
            TokenizerPair(source, target or source).save(folder)
        if self.materials.pictures:
            processor(image_size(model, self.config.net)).to_folder(folder)
        if self.materials.labels:
            write_durably(folder / "labels.json", json.dumps(self.materials.labels, ensure_ascii=False).encode())
        return self.run.publish(folder, kind=kind, metrics=self._metrics(fitted))

    def _metrics(self, fitted: Fitted) -> dict[str, Any]:
        labels = {"labels": list(self.materials.labels)} if self.materials.labels else {}
        if fitted.validation is not None and not fitted.validation.values:
            raise DataError("the validation split gave no figures")
        return {"objective": self.config.objective, **labels, **fitted.metrics}
