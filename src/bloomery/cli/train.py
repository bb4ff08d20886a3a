"""`bloomery train`: any objective, from random weights or from a model. This module does not know how it is done."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from bloomery.cli.options import (
    Common,
    Fresh,
    Overrides,
    Preflight,
    Ranks,
    RecipeFile,
    Track,
    TrainingEngine,
    read_recipe,
    show_artifact,
    tracked,
    with_ranks,
)
from bloomery.cli.plan import Minutes

if TYPE_CHECKING:
    from bloomery.core.artifact import Artifact
    from bloomery.core.recipe import Recipe
    from bloomery.core.workspace import Workspace
    from bloomery.training import TrainConfig

ObjectiveName = Annotated[
    str,
    Parameter(
        help="What is learnt: causal, middle, masked, spans, sequence, classes, values, tags; of pictures: "
        "contrastive, captions, classes, values [default: the recipe's]."
    ),
]
Start = Annotated[str, Parameter(help="A model to begin with: artifact name or id [default: random weights].")]
TargetField = Annotated[str, Parameter(name="--field", help="Metadata field that holds target, label, value or tags.")]


def train(
    corpus: Annotated[str, Parameter(help="A corpus: name, id or folder [default: the latest].")] = "",
    *,
    objective: ObjectiveName = "",
    field: TargetField = "",
    start: Start = "",
    minutes: Minutes = None,
    ranks: Ranks = None,
    engine: TrainingEngine = None,
    recipe: RecipeFile = None,
    set_: Overrides = None,
    track: Track = None,
    preflight: Preflight = True,
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """Train a model to fill blanks, translate, classify or go on with a text. Killed, the same command goes on."""
    common, began = common or Common(), time.time()
    from bloomery.tokenizer import TokenizerConfig
    from bloomery.training import ParallelConfig
    from bloomery.training import train as train_stage

    settings = read_recipe(recipe, with_ranks(set_, ranks, engine))
    workspace = tracked(common.workspace(), settings, track)
    config = chosen(settings, objective, field, start)
    made = train_stage(
        find_corpus(workspace, corpus, config),
        config=config,
        start=find_start(workspace, start),
        tokenizer_config=settings.table("tokenizer", TokenizerConfig),
        minutes=minutes,
        parallel=settings.table("parallel", ParallelConfig),
        workspace=workspace,
        fresh=fresh,
        preflight=preflight,
    )
    show_artifact(made, common, trained_lines(made.metrics), began=None if fresh else began)


def chosen(settings: Recipe, objective: str, field: str, start: str = "") -> TrainConfig:
    """The recipe's [train] with what the options say; ConfigError for sizes beside a model to start from."""
    from dataclasses import replace
    from typing import get_args, get_type_hints

    from bloomery.core.errors import ConfigError, nearest
    from bloomery.training import TrainConfig
    from bloomery.training.suitable import refuse_net

    if start:
        refuse_net(settings.keys)
    config = settings.table("train", TrainConfig)
    known = get_args(get_type_hints(TrainConfig)["objective"])
    if objective and objective not in known:
        raise ConfigError(f"unknown objective {objective!r:.40}", hint=nearest(objective, known))
    changes: dict[str, Any] = {
        key: value for key, value in (("objective", objective), ("target_field", field)) if value
    }
    return replace(config, **changes)


def find_corpus(workspace: Workspace, name: str, config: TrainConfig) -> Artifact:
    """The corpus of that name; without one the latest of texts, of pictures for what is learnt from those alone, of
    either where both can be labelled."""
    if name:
        return workspace.find(name)
    if config.objective in ("classes", "values"):
        return workspace.latest("corpus", "pictures")
    return workspace.latest("pictures" if config.objective in ("contrastive", "captions") else "corpus")


def find_start(workspace: Workspace, start: str) -> Artifact | None:
    """The artifact of a model to begin with; a folder or hub id is imported first."""
    if not start:
        return None
    if workspace.matching(start):
        return workspace.find(start)
    from bloomery.engine import import_model

    return import_model(start, workspace=workspace)


def trained_lines(metrics: Any) -> list[str]:
    """What came of it, for people."""
    unit = next(name for name in metrics if name.endswith("_per_second"))
    lines = [
        f"{metrics['objective']}: {metrics['parameters']:,} parameters, {metrics['steps']:,} steps in "
        f"{metrics['training_seconds']:.0f} s at {metrics[unit]:,.0f} {unit.removesuffix('_per_second')}/s"
    ]
    found = {k.removeprefix("validation_"): v for k, v in metrics.items() if k.startswith("validation_")}
    figures = [f"{k.replace('_', ' ')} {v:.4f}" for k, v in found.items() if isinstance(v, float) and k != "seconds"]
    return [*lines, "validation: " + (", ".join(figures) or "none held out")]
