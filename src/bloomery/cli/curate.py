"""`bloomery curate`: documents in, a corpus out. This module does not know how documents are read."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.options import Common, Fresh, Overrides, RecipeFile, read_recipe, show_artifact


def curate(
    *sources: Annotated[str, Parameter(help='Files, folders, globs or "python-docs" [default: the recipe\'s].')],
    recipe: RecipeFile = None,
    set_: Overrides = None,
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """Documents in, a corpus out: deduplicated, split, decontaminated, with a reason for every drop."""
    common = common or Common()
    from bloomery.corpus import CurateConfig
    from bloomery.corpus import curate as curate_stage

    config = read_recipe(recipe, set_).table("curate", CurateConfig)
    made = curate_stage(sources or config.sources, config=config, workspace=common.workspace(), fresh=fresh)
    metrics = made.metrics
    lines = [
        f"{split}: {count:,} documents, {metrics['text_bytes'][split]:,} bytes"
        for split, count in metrics["documents"].items()
    ]
    lines += [f"taken out, {reason}: {count:,}" for reason, count in metrics["dropped"].items()]
    if metrics.get("problems"):
        lines.append(f"problems in the sources: {metrics['problems']:,}, see {made.path / 'report.json'}")
    show_artifact(made, common, lines)
