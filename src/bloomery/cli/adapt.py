"""`bloomery adapt`: tune a model on examples, and write an adapter into its base. This module does not know how."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from bloomery.cli.options import Common, Fresh, Overrides, RecipeFile, read_recipe, show_artifact, shown
from bloomery.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from bloomery.core.artifact import Artifact
    from bloomery.core.recipe import Recipe

app = App(name="adapt", help_format="plaintext")

DataFiles = Annotated[
    list[Path],
    Parameter(
        negative=(),
        help="Files of examples: JSON Lines, JSON, CSV or TSV, packed or not: messages; prompt and completion; "
        "instruction and output; text and label; text.",
    ),
]
Held = Annotated[
    list[Path] | None,
    Parameter(name="--validation", negative=(), help="Files of what is held out [default: a share of the data]."),
]


@app.default
def adapt(
    model: Annotated[str, Parameter(help="The model to tune: artifact name or id, a folder, a hub id, or latest.")],
    data: DataFiles,
    *,
    method: Annotated[
        str,
        Parameter(
            help="Of examples: lora, qlora, dora or full [default: the recipe's, or lora]. Of preferences: dpo, ipo, "
            "kto or orpo. Of answers that can be checked: grpo. Of a teacher: distil. Of a domain's texts: domain."
        ),
    ] = "",
    teacher: Annotated[str, Parameter(help="distil: the model to learn from.")] = "",
    general: Annotated[str, Parameter(help="domain: a corpus or file of general text, to replay.")] = "",
    control: Annotated[
        list[str] | None,
        Parameter(negative=(), help="domain: corpora or files of something else, to see what is forgotten."),
    ] = None,
    minutes: Annotated[float | None, Parameter(help="Minutes of training.")] = None,
    epochs: Annotated[float | None, Parameter(help="Passes over the data [default: the recipe's, or 3].")] = None,
    validation: Held = None,
    adapter: Annotated[
        str | None, Parameter(help="An adapter of this model to go on with: artifact or folder.")
    ] = None,
    recipe: RecipeFile = None,
    set_: Overrides = None,
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """Tune a model on examples: an adapter in PEFT's format, or with --method full a model. Killed, the same command
    goes on."""
    common = common or Common()
    from bloomery.adapt.methods import METHODS

    if not data:
        raise ConfigError("no data is given", hint="bloomery adapt MODEL examples.jsonl")
    settings, how = read_recipe(recipe, set_), {"minutes": minutes, "epochs": epochs, "fresh": fresh}
    if method in METHODS:
        if validation:
            raise ConfigError(f"{method} holds out a share of its data", hint="leave --validation out")
        if adapter:
            raise ConfigError(f"{method} begins with a model", hint="bloomery adapt merge ADAPTER makes one")
        others = {"teacher": teacher or None, "general": general or None, "controls": control or ()}
        return _by_method(method, model, data, settings, common, {**others, **how})
    if teacher or general or control:
        raise ConfigError("--teacher, --general and --control are of distil and domain", hint="--method domain")
    _tuned(method, model, data, settings, common, {"validation": validation or (), "adapter": adapter, **how})


def _by_method(
    method: str, model: str, data: list[Path], settings: Recipe, common: Common, options: dict[str, Any]
) -> None:
    from bloomery.adapt.methods import METHODS, method_lines, run_method

    config = settings.table(METHODS[method].table, METHODS[method].config)
    made = run_method(method, model, data, config=config, workspace=common.workspace(), **options)
    show_artifact(made, common, method_lines(made.metrics))


def _tuned(
    method: str, model: str, data: list[Path], settings: Recipe, common: Common, options: dict[str, Any]
) -> None:
    from bloomery.adapt.methods import METHODS
    from bloomery.adapt.tuning.adapt import adapt as adapt_stage
    from bloomery.adapt.tuning.config import METHODS as TUNING
    from bloomery.adapt.tuning.config import AdaptConfig

    if method and method not in TUNING:
        raise ConfigError(f"unknown method {method!r:.40}", hint=nearest(method, (*TUNING, *METHODS)))
    config = settings.table("adapt", AdaptConfig)
    made = adapt_stage(model, data, method=method, config=config, workspace=common.workspace(), **options)
    show_artifact(made, common, [*adapted_lines(made.metrics, _samples(made.path)), *label_lines(made)])


@app.command
def merge(
    adapter: Annotated[str, Parameter(help="An adapter: artifact name or id, or a folder in PEFT's format.")],
    *,
    model: Annotated[str, Parameter(help="Its base [default: the one that the artifact was trained on].")] = "",
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """Write an adapter into its base: a model of its own, that costs nothing more to compute."""
    common = common or Common()
    from bloomery.adapt.tuning.merging import merge_adapter

    made = merge_adapter(adapter, model=model or None, workspace=common.workspace(), fresh=fresh)
    show_artifact(made, common, [f"{made.metrics['parameters']:,} parameters"])


def adapted_lines(metrics: Any, samples: list[dict[str, str]]) -> list[str]:
    """What came of it, for people."""
    unit = next(name for name in metrics if name.endswith("_per_second"))
    pace = f"{metrics[unit]:,.0f} {unit.removesuffix('_per_second')}/s, rate {metrics['learning_rate']:.2g}"
    lines = [
        f"{metrics['method']} on {metrics['objective']}: {metrics['trained_parameters']:,} of "
        f"{metrics['parameters']:,} parameters trained",
        f"{metrics['steps']:,} steps in {metrics['training_seconds']:.0f} s at {pace}",
    ]
    for name, value in metrics.items():
        if name.startswith("validation_") and name.endswith("_before"):
            after = metrics.get(name.removesuffix("_before"))
            what = name.removeprefix("validation_").removesuffix("_before").replace("_", " ")
            lines.append(f"validation {what}: {value:.4f} before, {after:.4f} after{_beside(what, metrics)}")
    for sample in samples:
        lines += [
            f"asked    {_short(sample['prompt'])}",
            f"expected {_short(sample['expected'])}",
            f"before   {_short(sample['before'])}",
            f"after    {_short(sample['after'])}",
        ]
    return lines


def _beside(what: str, metrics: Any) -> str:
    """What an accuracy of labels is to be held against."""
    if what != "accuracy" or "validation_commonest" not in metrics:
        return ""
    return (
        f" (n = {metrics['validation_examples']:,}; the most frequent label is {metrics['validation_commonest']:.4f})"
    )


def label_lines(made: Artifact) -> list[str]:
    """What an artifact that gives labels is for; nothing for one that writes texts."""
    labels = made.metrics.get("labels")
    if not labels:
        return []
    listed = ", ".join(f"{shown(str(one)):.20}" for one in labels[:4]) + (", ..." if len(labels) > 4 else "")
    said = f"gives a text one of {len(labels):,} labels ({listed}), and writes none"
    if made.kind == "adapter":
        merged = f"bloomery adapt merge {made.name} makes CLASSIFIER of it"
        return [f"it {said}: {merged}; bloomery evaluate CLASSIFIER --task labelled.jsonl measures that"]
    return [f"it {said}: bloomery evaluate {made.name} --task labelled.jsonl measures it; bl.load(...).classify(TEXT)"]


def _samples(folder: Path) -> list[dict[str, str]]:
    import json

    return json.loads((folder / "samples.json").read_text(encoding="utf-8"))


def _short(text: str) -> str:
    one = " ".join(shown(text).split())
    return one if len(one) <= 160 else one[:80] + " ... " + one[-75:]
