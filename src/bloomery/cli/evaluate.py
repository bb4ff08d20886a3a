"""`bloomery evaluate`: put a model to tasks, with intervals and cost. This module does not know how they are scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from bloomery.cli.options import Common, Fresh, artifact_data, print_json, shown
from bloomery.core.errors import ConfigError
from bloomery.core.quantity import Quantity
from bloomery.core.workspace import LATEST

if TYPE_CHECKING:
    from bloomery.core.artifact import Artifact
    from bloomery.core.workspace import Workspace

_MODEL = (
    "A model: artifact name or id, latest, a Hugging Face folder, a hub id, a LoRA adapter (on its own base), a"
    " classifier (of rows of text and label, or whose choices are its labels), or a server's address up to /v1."
)
_ADAPTER = "A LoRA adapter to put on MODEL: artifact, or folder in PEFT's format."
_HTML = (
    "Write a page to read, with scores and every answer: one file for a name that ends in .html, else a folder with a"
    " page for each task."
)
_MAX_FAILED = "Share of a task's questions that may fail on the way; they count as wrong, and it is said."
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
    adapter: Annotated[str, Parameter(help=_ADAPTER)] = "",
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
    budget_tokens: Annotated[
        int | None, Parameter(help="Tokens at most, prompts and answers together; kept answers cost none.")
    ] = None,
    budget_answers: Annotated[int | None, Parameter(help="Answers and scored texts at most, likewise.")] = None,
    max_failed: Annotated[float, Parameter(help=_MAX_FAILED)] = 0.1,
    html: Annotated[Path | None, Parameter(help=_HTML)] = None,
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
    from bloomery.core.budget import BudgetConfig
    from bloomery.evaluate import EvaluateConfig
    from bloomery.evaluate import evaluate as measured

    workspace = common.workspace()
    config = EvaluateConfig(limit=limit, few_shot=few_shot, seed=seed, chat=chat, bos=bos, max_failed=max_failed)
    named = [*tasks, *(task or ())]
    how: dict[str, Any] = {"config": config, "data": data, "workspace": workspace, "fresh": fresh}
    if (budget_tokens, budget_answers) != (None, None):
        how["budget"] = BudgetConfig(tokens=budget_tokens, requests=budget_answers)
    how["corpus"] = workspace.find(corpus, kind="corpus") if corpus else None
    how["against"] = _other(against, named, workspace, how) if against else None
    made = measured(model, named, adapter=adapter or None, **how)
    if html is not None:
        from bloomery.evaluate.evaluation_page import write_pages

        write_pages(made, html, against=how["against"])
    _show(made, common)


def _other(reference: str, tasks: Sequence[str | Path], workspace: Workspace, how: dict[str, Any]) -> Artifact:
    """The evaluation that is compared with: of that name, or made now of the model of that name."""
    from bloomery.evaluate import KIND
    from bloomery.evaluate import evaluate as measured

    other = reference == LATEST or reference.startswith(("http://", "https://"))  # a model
    if not other and workspace.matching(reference, kind=KIND):
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
        for line in (*_failures(one), *_beside(one)):
            print(f"  {one['task']}: {shown(line)}")
        if "contamination" in one:
            print(f"  {one['task']}: {_contamination(one)}")
    against = found.get("against", {})
    for one in against.get("comparisons", ()):
        print(f"  {one['task']}, {one['metric']}: {one['sentence']}")
    for name, one in against.get("preferences", {}).items():
        print(f"  {name}, by preference: {shown(one['sentence'])}")
    if "budget" in found:
        print(f"  {_spent(found['budget'])}")


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
        parts.append(f"{one['cached']:,} of {one['samples']:,} kept from before, whose cost was paid then")
    if one["note"]:
        parts.append(shown(one["note"]))
    return ", ".join(parts)


def _failures(one: dict[str, Any]) -> list[str]:
    """What has no answer: never only a part of what is wrong."""
    if not one["errors"]:
        return []
    said = f"{one['errors']:,} of {one['samples']:,} without an answer, which count as wrong ({one['error']})"
    if one["failed"]:
        answered = ", ".join(f"{name} {figure['value']:.4g}" for name, figure in one["answered_metrics"].items())
        said += f"; {one['failed']:,} failed on the way, and without them: {answered}"
    return [said]


def _beside(one: dict[str, Any]) -> list[str]:
    """Figures that are no means, and what the judge is worth."""
    lines = [f"by chance {one['chance']:.4g}"] if "chance" in one else []
    cautions = {name: own["caution"] for name, own in one["metrics"].items() if own.get("caution")}
    lines += [f"the interval of {name} may be {caution}" for name, caution in cautions.items()]
    lines += [
        f"{name} over all samples {own['value']:.2f} ({own['signature']})"
        for name, own in one.get("corpus", {}).items()
    ]
    judge = one.get("judge")
    if judge is not None:
        cost = judge["cost"]
        tokens = "unknown" if cost["tokens"] is None else f"{cost['tokens']:,}"
        lines.append(judge.get("sentence", judge["name"]))
        lines.append(f"judging took {tokens} tokens, {cost['seconds']:.1f} s")
    return lines


def _spent(budget: dict[str, Any]) -> str:
    parts = []
    for name, said in (("tokens", "tokens"), ("requests", "answers")):
        if (limit := budget["limits"][name]) is not None:
            spent = budget["spent"][name]
            parts.append(f"{'unknown' if spent is None else f'{spent:,}'} of {limit:,} {said}")
    return f"spent of the budget: {', '.join(parts)}"
