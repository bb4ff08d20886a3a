"""`bloomery sweep`: a recipe's dials tried out. This module does not know how trials are chosen or stopped."""

from __future__ import annotations

import math
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from cyclopts import Parameter

from bloomery.cli.options import Common, Overrides, print_json, read_recipe, trackers

if TYPE_CHECKING:
    from bloomery.core.artifact import Artifact
    from bloomery.core.errors import ConfigError
    from bloomery.core.events import Event, Listener
    from bloomery.core.recipe import Recipe
    from bloomery.training.sweep import SweepConfig
    from bloomery.training.sweep.dials import Dial
    from bloomery.training.sweep.trial_process import Outcome

METRIC = "validation_bits_per_byte"
STAGES = ("curate", "tokenizer", "tokenize", "pretrain")
"""Of a trial, and their tables in a recipe."""
_LOOKED_AT = 64
_ANY_VOCABULARY = 512
"""A model's other sizes fit together, or not, whatever this is."""


def sweep(
    recipe: Annotated[Path, Parameter(help="A recipe (TOML) with a table [sweep.dials].")],
    *,
    trials: Annotated[int | None, Parameter(help="Trials in all [default: the recipe's, 24].")] = None,
    jobs: Annotated[int, Parameter(help="Trials at a time; each then has its share of the processors.")] = 1,
    retry: Annotated[bool, Parameter(negative=(), help="Try again what failed in an earlier call.")] = False,
    engine: Annotated[
        Literal["local", "ray"] | None, Parameter(help="Local processes, or Ray Tune [default: the recipe's, local].")
    ] = None,
    set_: Overrides = None,
    common: Common | None = None,
) -> None:
    """Try out a recipe's dials. Each trial is a run in the ledger; killed, the same command goes on."""
    common = common or Common()
    from bloomery.cli.chain import execute
    from bloomery.core.errors import ConfigError, TrainingError
    from bloomery.core.interrupts import interrupted_by
    from bloomery.core.processors import processors
    from bloomery.training.sweep import SweepConfig, check_packages
    from bloomery.training.sweep import sweep as sweep_dials
    from bloomery.training.sweep.report import table

    if jobs < 1:
        raise ConfigError(f"{jobs} trials at a time are none", hint="--jobs 1, or more")
    settings, workspace = read_recipe(recipe, set_), common.workspace()
    config = settings.table("sweep", SweepConfig)
    config = replace(config, engine=engine or config.engine)
    config = config if trials is None else replace(config, trials=trials)
    _check(settings, recipe, set_ or (), config)
    check_packages(config)
    trackers(settings, workspace)  # a sink whose package is missing, too
    until = "tokenize"
    if all(key.startswith("pretrain.") for key in config.dials):
        _held_out(execute(settings, workspace, until=until)[until])
    # Ray tells a trial its share of the processors of its node, which may be another one.
    threads = max(1, processors() // jobs) if jobs > 1 and config.engine == "local" else 0
    work = Trial(recipe=recipe.absolute(), overrides=tuple(set_ or ()), root=workspace.root, threads=threads)
    with interrupted_by(signal.SIGINT, signal.SIGTERM):
        report = sweep_dials(
            config,
            work,
            workspace=workspace,
            identity={"recipe": settings.name, "tables": _tables(settings)},
            metric=METRIC,
            jobs=jobs,
            retry=retry,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    if common.json:
        print_json(report.to_dict())
    else:
        print("\n".join(table(report)))
    failed, hint = [row for row in report.rows if row.state == "failed"], ""
    if failed and not retry:
        hint = "with --retry the same command tries again what failed"
    if failed and len(failed) == len(report.rows):
        sys.stdout.flush()  # the table comes first
        raise TrainingError(f"all trials failed, the first one so: {failed[0].note}", hint=hint)
    if hint:
        print(hint, file=sys.stderr)


def _check(settings: Recipe, path: Path, overrides: Sequence[str], config: SweepConfig) -> None:
    """ConfigError for a dial that changes nothing of a trial, or has a value that no trial can have: better said now
    than by the trial that comes to it."""
    from bloomery.core.errors import ConfigError
    from bloomery.training.sweep.dials import dials_of, grid_of

    dials, points = dials_of(config.dials), config.points
    for dial in dials:
        table = dial.key.partition(".")[0]
        if table in settings.tables and table not in STAGES:
            raise ConfigError(
                f'the dial "{dial.key}" changes nothing of a trial', hint=f"dials are keys of {', '.join(STAGES)}"
            )
    if config.sampler == "grid":
        grid_of(dials, points)  # refused where it is too large
    for dial in dials:
        others = [other for other in dials if other is not dial]
        for value in dial.tested:
            _check_value(dial, value, others, points, lambda changed: _take(path, [*overrides, *changed]))


def _check_value(
    dial: Dial, value: Any, others: Sequence[Dial], points: int, take: Callable[[Sequence[str]], None]
) -> None:
    """ConfigError where the recipe takes a dial's value neither alone nor, for dials may need each other, beside any of
    some values of the others."""
    from bloomery.core.errors import ConfigError
    from bloomery.training.sweep.dials import override

    own, rng = override(dial.key, value), random.Random(0)
    refused = _refused(take, [own])
    beside = {
        tuple(override(one.key, one.at(rng.randrange(one.places(points)), points)) for one in others)
        for _ in range(_LOOKED_AT if others and refused else 0)
    }
    if not all(_refused(take, [*values, own]) for values in sorted(beside)):
        return
    if refused:
        plain = refused.__cause__ if isinstance(refused.__cause__, ConfigError) else refused  # which blames no --set
        raise ConfigError(f"{plain.message} (the dial {own.replace('=', ' = ', 1)})", hint=plain.hint) from None


def _refused(take: Callable[[Sequence[str]], None], changed: Sequence[str]) -> ConfigError | None:
    from bloomery.core.errors import ConfigError

    try:
        take(changed)
    except ConfigError as error:
        return error
    return None


def _take(path: Path, overrides: Sequence[str]) -> None:
    """ConfigError where the recipe does not take some overrides, or the model has sizes that none can have."""
    from bloomery.training.pretrain_config import PretrainConfig, sized

    sized(read_recipe(path, overrides).table("pretrain", PretrainConfig).resolved(), vocab_size=_ANY_VOCABULARY)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial's work, as it goes to another process: the recipe's stages up to training, some keys overridden."""

    recipe: Path
    overrides: tuple[str, ...]
    root: Path
    threads: int = 0
    imports: ClassVar[tuple[str, ...]] = ("bloomery.cli.chain",)

    def __call__(self, values: Mapping[str, Any], listener: Listener) -> Outcome:
        """Train, and what came of it. `listener` hears the training run alone."""
        from bloomery.cli.chain import execute
        from bloomery.core.errors import ArtifactError
        from bloomery.core.locks import FileLock
        from bloomery.core.workspace import Workspace
        from bloomery.training.sweep.dials import override
        from bloomery.training.sweep.trial_process import Outcome

        if self.threads:
            import torch

            torch.set_num_threads(self.threads)
        changed = [override(key, value) for key, value in values.items()]
        settings = read_recipe(self.recipe, [*self.overrides, *changed])
        lock = FileLock(self.root / "sweeps" / "stages.lock")
        while not lock.try_acquire():  # trials at the same time may need the same corpus or tokenizer
            if not lock.path.parent.is_dir():
                raise ArtifactError(f"{lock.path.parent} has gone", hint="run the same command again")
            time.sleep(0.1)
        try:
            tokens = execute(settings, Workspace(self.root), until="tokenize")["tokenize"]
        finally:
            lock.release()
        _held_out(tokens)
        workspace = Workspace(self.root)
        # Who may stop it is told last.
        workspace.listeners = (*trackers(settings, workspace), _in_bits_per_byte(listener, tokens))
        made = execute(settings, workspace, until="pretrain")["pretrain"]
        return Outcome(value=float(made.metrics[METRIC]), artifact=made.name)


def _held_out(tokens: Artifact) -> None:
    """DataError where nothing is, before anything is trained: there would be no figure to compare trials by."""
    from bloomery.core.errors import DataError
    from bloomery.tokenizer import TokenShards

    if TokenShards(tokens, "validation").num_tokens < 2:
        raise DataError(
            "nothing is held out: there is no figure to compare trials by", hint="curate.validation_fraction=0.1"
        )


def _in_bits_per_byte(listener: Listener, tokens: Artifact) -> Listener:
    """Losses are nats for a token, which trials with other tokenizers could not be compared by."""
    from bloomery.tokenizer import TokenShards

    shards = TokenShards(tokens, "train")
    factor = int(shards.num_labels().sum()) / max(1, shards.text_bytes) / math.log(2)

    def hear(event: Event) -> None:
        if "loss_sum" in event.data:
            event = replace(event, data={**event.data, "loss_sum": event.data["loss_sum"] * factor})
        listener(event)

    return hear


def _tables(settings: Recipe) -> dict[str, Any]:
    """All of a recipe that decides what a trial makes."""
    from bloomery.core.config import to_dict

    return {name: to_dict(settings.tables[name]) for name in STAGES}
