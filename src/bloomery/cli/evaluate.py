"""`bloomery evaluate`: put a model to tasks, with intervals and cost. This module does not know how they are scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from bloomery.cli.options import Common, Fresh, artifact_data, print_json, shown
from bloomery.core.errors import ConfigError
from bloomery.core.quantity import Quantity

if TYPE_CHECKING:
    from bloomery.core.artifact import Artifact
    from bloomery.core.workspace import Workspace

_MODEL = "A model: artifact name or id, a Hugging Face folder, a hub id, or a server's address up to /v1."
_DATA = 'Folder where the tasks\' files lie, or "hub" to download what is missing [default: $BLOOMERY_DATA].'


def evaluate(
    model: Annotated[str, Parameter(help=_MODEL)] = "",
    tasks: Annotated[tuple[str, ...], Parameter(help="Tasks by name; --list names them.", negative=())] = (),
    *,
    task: Annotated[
        list[Path] | None, Parameter(negative=(), help="A task of your own: TOML, JSONL or CSV. May be repeated.")
    ] = None,
    limit: Annotated[int | None, Parameter(help="Samples of each task, from its beginning.")] = None,
    few_shot: Annotated[int | None, Parameter(help="Examples before each question [default: the task's].")] = None,
    seed: Annotated[int, Parameter(help="Draws the examples.")] = 0,
    data: Annotated[str | None, Parameter(help=_DATA)] = None,
    corpus: Annotated[
        str, Parameter(help="A corpus artifact that samples are sought in [default: what the model was trained on].")
    ] = "",
    against: Annotated[
        str, Parameter(help="Another model, or an evaluation of one: compared sample by sample on the same tasks.")
    ] = "",
    chat: Annotated[
        bool, Parameter(negative=(), help="Free answers go through the chat template, instead of on from the prompt.")
    ] = False,
    bos: Annotated[
        bool | None,
        Parameter(help="Begin scored contexts with BOS, or not [default: as the tokenizer has it]."),
    ] = None,
    html: Annotated[
        Path | None, Parameter(help="Write a page for each task into this folder: scores, and every answer to read.")
    ] = None,
    list_: Annotated[bool, Parameter(name="--list", negative=(), help="Say which tasks there are.")] = False,
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """Put a model to tasks: scores with 95% intervals, tokens, joules and seconds, every answer kept to be read."""
    common = common or Common()
    if list_:
        _list_tasks(common)
        return
    if not model:
        raise ConfigError("which model?", hint="bloomery evaluate MODEL arc_easy --data FOLDER")
    from bloomery.evaluate import EvaluateConfig, open_subject
    from bloomery.evaluate import evaluate as measured

    workspace = common.workspace()
    config = EvaluateConfig(limit=limit, few_shot=few_shot, seed=seed, chat=chat, bos=bos)
    named = [*tasks, *(task or ())]
    how: dict[str, Any] = {"config": config, "data": data, "workspace": workspace, "fresh": fresh}
    how["corpus"] = workspace.find(corpus, kind="corpus") if corpus else None
    how["against"] = _other(against, named, workspace, how) if against else None
    opened = open_subject(model, workspace=workspace, chat=chat, bos=bos)
    try:
        made = measured(opened, named, **how)
    finally:
        opened.close()
    if html is not None:
        _write_pages(made, how["against"], html)
    _show(made, common)


def _write_pages(made: Artifact, against: Artifact | None, folder: Path) -> None:
    from bloomery.evaluate import read_evaluation
    from bloomery.evaluate.report_page import write_html
    from bloomery.evaluate.task_report import report_of

    folder.mkdir(parents=True, exist_ok=True)
    for one in read_evaluation(made)["tasks"]:
        if one["kind"] != "text":  # which has no scores of single samples
            write_html(report_of(made, one["task"], against=against), folder / f"{one['task']}.html")


def _other(reference: str, tasks: Sequence[str | Path], workspace: Workspace, how: dict[str, Any]) -> Artifact:
    """The evaluation that is compared with: of that name, or made now of the model of that name."""
    from bloomery.evaluate import KIND
    from bloomery.evaluate import evaluate as measured

    if not reference.startswith(("http://", "https://")) and workspace.matching(reference, kind=KIND):
        found = workspace.find(reference)
        if found.kind == KIND:
            return found
    return measured(reference, tasks, **how)


def _list_tasks(common: Common) -> None:
    from bloomery.evaluate.tasks import built_in, read_task

    tasks = [read_task(path) for path in built_in().values()]
    if common.json:
        print_json([{"name": one.name, "title": one.title, "kind": one.kind, "licence": one.licence} for one in tasks])
        return
    width = max(len(one.name) for one in tasks)
    for one in tasks:
        print(f"{one.name:<{width}}  {one.title}")


def _show(artifact: Artifact, common: Common) -> None:
    from bloomery.evaluate import read_evaluation

    found = read_evaluation(artifact)
    if common.json:
        print_json({**artifact_data(artifact), **found})
        return
    print(f"{artifact.name}  {artifact.path}")
    _table(found["tasks"])
    for one in found["tasks"]:
        print(f"  {one['task']}: {_cost(one)}")
        if "contamination" in one:
            print(f"  {one['task']}: {_contamination(one)}")
    for one in found.get("against", {}).get("comparisons", ()):
        print(f"  {one['task']}, {one['metric']}: {one['sentence']}")


def _table(results: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("task", "metric"):
        table.add_column(name)
    for name in ("value", "95% interval", "samples"):
        table.add_column(name, justify="right")
    for one in results:
        for metric, figure in one["metrics"].items():
            interval = "unknown" if figure["low"] is None else f"{figure['low']:.4g} to {figure['high']:.4g}"
            table.add_row(one["task"], metric, f"{figure['value']:.4g}", interval, f"{figure['samples']:,}")
    Console().print(table)


def _contamination(one: dict[str, Any]) -> str:
    told = one["contamination"]
    clean = ", ".join(f"{name} {figure['value']:.4g}" for name, figure in told["clean_metrics"].items())
    return (
        f"{told['contaminated']:,} of {one['samples']:,} samples stand in the training corpus "
        f"({told['documents']:,} documents); without them {clean or 'nothing is left'}"
    )


def _cost(one: dict[str, Any]) -> str:
    """What the answers took, kept ones included."""
    cost = one["cost"]
    tokens = "unknown" if cost["prompt_tokens"] is None else f"{cost['prompt_tokens']:,}"
    parts = [f"{tokens} tokens read", f"{cost['seconds']:.1f} s", Quantity.from_dict(cost["energy_joules"]).text("J")]
    if one["cached"]:
        parts.append(f"{one['cached']:,} of {one['samples']:,} kept from before")
    if one["errors"]:
        reason = f" ({shown(one['error'])})" if one.get("error") else ""
        parts.append(f"{one['errors']:,} without an answer{reason}")
    if one["note"]:
        parts.append(one["note"])
    return ", ".join(parts)
