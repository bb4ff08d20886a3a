"""`bloomery demo`: real text to a trained, measured, served model, in minutes, with nothing to download.

This module does not know how the stages work: it runs the chain with a small budget and shows what came out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from bloomery.cli.options import Common, Overrides

if TYPE_CHECKING:
    from bloomery.core.artifact import Artifact
    from bloomery.core.recipe import Recipe
    from bloomery.core.workspace import Workspace

DEMO_MINUTES = 3.0


def demo(
    *,
    minutes: Annotated[float, Parameter(help="Minutes of training.")] = DEMO_MINUTES,
    serve: Annotated[bool, Parameter(help="Serve the model at the end, until Ctrl-C.")] = True,
    port: Annotated[int, Parameter(help="Where to serve; 0 takes a free port.")] = 8000,
    set_: Overrides = None,
    common: Common | None = None,
) -> None:
    """Real text to a trained, measured, served model: the documentation of Python, nothing to download."""
    common = common or Common()
    from bloomery.server import ServeConfig
    from bloomery.server import serve as serve_model
    from bloomery.server.serve import listen

    config = ServeConfig(port=port)
    if serve:
        listen(config).close()  # a busy port is better known now than in five minutes
    workspace = common.workspace()
    made = run_demo(workspace, [f"pretrain.minutes={minutes}", *(set_ or [])], as_json=common.json)
    if serve:
        sys.stdout.flush()
        serve_model(made["pretrain"], workspace=workspace, config=config)


def run_demo(workspace: Workspace, overrides: Sequence[str], *, as_json: bool) -> dict[str, Artifact]:
    """Run the whole chain on the documentation of Python, print what it gave, and write the HTML report."""
    from bloomery.cli.chain import SCHEMA
    from bloomery.core.recipe import load_recipe

    recipe = load_recipe(None, SCHEMA, overrides)
    made = run_and_say(recipe, workspace, until="measure")
    present(recipe, workspace, made, as_json=as_json)
    return made


def run_and_say(recipe: Recipe, workspace: Workspace, *, until: str, fresh: bool = False) -> dict[str, Artifact]:
    """Execute the chain, one line on stderr for each stage that is ready."""
    from bloomery.cli.chain import execute
    from bloomery.cli.show import outcome_lines

    def done(name: str, artifact: Artifact, reused: bool) -> None:
        print(f"{name}: {artifact.name}{' (unchanged, reused)' if reused else ''}", file=sys.stderr)
        if name == "pretrain" and not reused:
            for line in outcome_lines(artifact.metrics):
                print(f"  {line}", file=sys.stderr)

    return execute(recipe, workspace, until=until, fresh=fresh, done=done)


def present(recipe: Recipe, workspace: Workspace, made: Mapping[str, Artifact], *, as_json: bool) -> Path:
    """Print the scoreboard, completions and costs, and write the report; returns the report's path."""
    from bloomery.cli import show
    from bloomery.cli.report import collect, render
    from bloomery.core.artifact import disk_errors, write_durably
    from bloomery.energy import EnergyConfig

    data = collect(workspace, made, recipe.table("energy", EnergyConfig))
    path = workspace.root / "reports" / f"{made['pretrain'].name}.html"
    with disk_errors("cannot write the report"):
        path.parent.mkdir(exist_ok=True)
        write_durably(path, render(data).encode())
    if as_json:
        print(json.dumps({**data, "report": str(path)}, ensure_ascii=False))
        return path
    _corpus_line(data)
    show.scoreboard(data["scores"])
    print()
    show.completions(data["scores"])
    print()
    show.cost_table(data["costs"])
    print(f"\nreport: {path}\nmodel:  {made['pretrain'].path}  (a Hugging Face folder)")
    return path


def _corpus_line(data: Mapping[str, Any]) -> None:
    corpus = data["corpus"]
    splits = ", ".join(
        f"{split} {count:,} documents / {corpus['text_bytes'][split] / 1e6:.2f} MB"
        for split, count in corpus["documents"].items()
    )
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in corpus["dropped"].items()) or "nothing"
    print(f"corpus: {splits}\ntaken out: {dropped}\n")
