"""`bloomery run`: a recipe's stages, only those that have changed. This module does not know the stages."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.demo import present, run_and_say
from bloomery.cli.options import Common, Fresh, Overrides, Track, artifact_data, print_json, read_recipe, tracked
from bloomery.core.errors import ConfigError


def run(
    recipe: Annotated[Path | None, Parameter(help="A recipe (TOML); recipes/ holds some.")] = None,
    *,
    keys: Annotated[
        str, Parameter(help="Say what a table's keys are and do nothing: curate, curate.dedup, train, ..., or all.")
    ] = "",
    until: Annotated[str, Parameter(help="Last stage: curate, tokenizer, tokenize, pretrain or measure.")] = "measure",
    dry_run: Annotated[bool, Parameter(negative=(), help="Say what would be done and why, and do nothing.")] = False,
    set_: Overrides = None,
    track: Track = None,
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """Run a recipe: only what has changed, like make."""
    common = common or Common()
    if keys:
        return _show_keys(keys, common)
    if recipe is None:
        raise ConfigError("no recipe is given", hint="bloomery run recipe.toml; --keys all lists what may stand in it")
    settings = read_recipe(recipe, set_)
    workspace = tracked(common.workspace(), settings, track)
    if dry_run:
        from bloomery.cli.chain import explain

        steps = explain(settings, workspace, until=until)
        if common.json:
            print_json([{"stage": s.name, "action": s.action, "reason": s.reason} for s in steps])
        else:
            for step in steps:
                print(f"{step.name:10} {step.action:6} {step.reason}")
        return
    made = run_and_say(settings, workspace, until=until, fresh=fresh)
    if until == "measure":
        present(settings, workspace, made, as_json=common.json)
    elif common.json:
        print_json({name: artifact_data(artifact) for name, artifact in made.items()})
    else:
        for name, artifact in made.items():
            print(f"{name:10} {artifact.name}  {artifact.path}")
    sys.stdout.flush()


def _show_keys(table: str, common: Common) -> None:
    from bloomery.cli.recipe_page import keys_of

    found = keys_of(table)
    if common.json:
        return print_json(found)
    for one in found:
        default = f" = {one['default']}" if one["default"] else ""
        print(f"{one['key']}{default}  ({one['kind']})")
        print(textwrap.fill(one["meaning"], 100, initial_indent="    ", subsequent_indent="    "))
