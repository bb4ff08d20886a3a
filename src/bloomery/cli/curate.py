"""`bloomery curate`: documents in, a corpus out. This module does not know how documents are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bloomery.cli.options import Common, Fresh, Overrides, RecipeFile, read_recipe, show_artifact

if TYPE_CHECKING:
    from bloomery.core.recipe import Recipe

_MAX_WORKERS = 1024


def curate(
    *sources: Annotated[str, Parameter(help='Files, folders, globs or "python-docs" [default: the recipe\'s].')],
    pictures: Annotated[
        bool, Parameter(negative=(), help="A corpus of pictures with captions, of the recipe's [pictures].")
    ] = False,
    workers: Annotated[
        int, Parameter(help="Processes that read [default: one for each processor]; the corpus is the same.")
    ] = 0,
    recipe: RecipeFile = None,
    set_: Overrides = None,
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """Documents in, a corpus out: deduplicated, split, decontaminated, with a reason for every drop."""
    common = common or Common()
    from bloomery.core.errors import ConfigError
    from bloomery.corpus import CurateConfig
    from bloomery.corpus import curate as curate_stage

    settings = read_recipe(recipe, set_)
    if pictures:
        _curate_pictures(sources, settings, fresh, common)
        return
    config = settings.table("curate", CurateConfig)
    if not 0 <= workers <= _MAX_WORKERS:
        raise ConfigError(f"workers should be from 0 to {_MAX_WORKERS}")
    made = curate_stage(
        sources or config.sources, config=config, workspace=common.workspace(), fresh=fresh, workers=workers
    )
    metrics = made.metrics
    lines = [
        f"{split}: {count:,} documents, {metrics['text_bytes'][split]:,} bytes"
        for split, count in metrics["documents"].items()
    ]
    lines += [f"taken out, {reason}: {count:,}" for reason, count in metrics["dropped"].items()]
    if metrics.get("problems"):
        lines.append(f"problems in the sources: {metrics['problems']:,}, see {made.path / 'report.json'}")
    show_artifact(made, common, lines)


def _curate_pictures(sources: tuple[str, ...], settings: Recipe, fresh: bool, common: Common) -> None:
    from bloomery.corpus import PicturesConfig, curate_pictures

    config = settings.table("pictures", PicturesConfig)
    made = curate_pictures(sources or config.sources, config=config, workspace=common.workspace(), fresh=fresh)
    metrics = made.metrics
    lines = [
        f"{split}: {count:,} pictures, {metrics['bytes'][split]:,} bytes, {metrics['captions'][split]:,} captions"
        for split, count in metrics["pictures"].items()
    ]
    lines += [f"taken out, {reason}: {count:,}" for reason, count in metrics["dropped"].items()]
    if metrics["problems"]:
        lines.append(f"problems in the sources: {metrics['problems']:,}, see {made.path / 'report.json'}")
    show_artifact(made, common, lines)
