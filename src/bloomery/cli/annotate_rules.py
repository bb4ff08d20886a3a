"""`bloomery annotate rules`: labelling functions over a corpus. This module does not know how they are weighed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from bloomery.cli.annotate_options import CorpusName, Field, GoldField, GoldSplits, MinProbability, find_corpus
from bloomery.cli.options import Common, Fresh, artifact_data, print_json
from bloomery.core.errors import ConfigError

if TYPE_CHECKING:
    from bloomery.corpus.annotation.weak_labels import WeakLabels


def rules(
    file: Annotated[Path, Parameter(help="A TOML file with the question and its [[function]]s.")],
    corpus: CorpusName = "",
    *,
    label_model: Annotated[
        Literal["firing", "confusion", "accuracy", "majority"],
        Parameter(
            help="How functions are weighed: by how often they give which label, or none; by confusions (Dawid-Skene);"
            " by one accuracy each; or all alike."
        ),
    ] = "firing",
    balance: Annotated[
        str, Parameter(help="Shares of the labels, if they are known: ham=0.87,spam=0.13 [default: estimated].")
    ] = "",
    field: Field = "label",
    gold: GoldField = "",
    gold_split: GoldSplits = None,
    min_probability: MinProbability = 0.0,
    keep_unlabelled: Annotated[
        bool, Parameter(negative=(), help="Keep documents of which no function says anything, without a label.")
    ] = False,
    dry_run: Annotated[bool, Parameter(negative=(), help="Say what the functions do, and make nothing.")] = False,
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """Label a corpus by rules: a corpus with labels, which `bloomery train --objective classes` reads."""
    common = common or Common()
    from bloomery.corpus.annotation.label_functions import read_rules
    from bloomery.corpus.annotation.labelled import LabelledConfig, label_corpus
    from bloomery.corpus.annotation.weak_labels import weak_labels

    settings = LabelledConfig(
        field=field,
        gold_field=gold,
        gold_splits=tuple(gold_split or ()),
        min_probability=min_probability,
        keep_unlabelled=keep_unlabelled,
    )
    functions = read_rules(file)
    shares = _shares(balance, functions.question.labels)
    workspace = common.workspace()
    source = find_corpus(workspace, corpus)
    found = weak_labels(source, functions, name=label_model, balance=shares, gold_field=gold)
    if dry_run:
        return print_json(found.report) if common.json else _show(found)
    how = {"rules": functions.question.name, "digest": functions.digest, **found.report}
    made = label_corpus(source, found.labels(), config=settings, how=how, workspace=workspace, fresh=fresh)
    _keep(found, workspace.root)
    if common.json:
        return print_json({**artifact_data(made), "rules": found.report})
    print(f"{made.name}  {made.path}")
    for split, labels in made.metrics["labels"].items():
        said = ", ".join(f"{label} {count:,}" for label, count in labels.items())
        print(f"  {split}: {made.metrics['documents'][split]:,} documents" + (f" ({said})" if said else ""))
    for reason, count in made.metrics["dropped"].items():
        print(f"  taken out, {reason}: {count:,}")
    return _show(found)


def _shares(text: str, labels: tuple[str, ...]) -> list[float] | None:
    if not text:
        return None
    given: dict[str, float] = {}
    for part in text.split(","):
        name, equals, share = part.rpartition("=")
        try:
            given[name.strip()] = float(share)
        except ValueError:
            equals = ""
        if not equals or name.strip() not in labels:
            raise ConfigError(f"--balance does not know {part!r:.60}", hint=",".join(f"{one}=..." for one in labels))
    if set(given) != set(labels):
        raise ConfigError("--balance should name every label", hint=",".join(f"{one}=..." for one in labels))
    return [given[label] for label in labels]


def _keep(found: WeakLabels, root: Path) -> None:
    """The labels in the store, beside those of models and people."""
    from bloomery.corpus.annotation.store import FILE, AnnotationStore

    with AnnotationStore(root / FILE) as store:
        store.add_all(found.rules.question, found.annotations())


def _show(found: WeakLabels) -> None:
    from rich.console import Console
    from rich.table import Table

    report = found.report
    gold = "against_gold" in report
    table = Table(box=None, pad_edge=False, title="functions, on the training split", title_justify="left")
    table.add_column("function")
    table.add_column("labels")
    names = ["coverage", "overlaps", "conflicts", "estimated_accuracy"] + (["accuracy"] if gold else [])
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for row in report["functions"]:
        table.add_row(row["name"], ", ".join(row["labels"]), *(_number(row[name]) for name in names))
    Console(highlight=False).print(table)
    shares = ", ".join(f"{label} {share:.3f}" for label, share in report["balance"].items())
    print(f"label model: {report['label_model']}, {report['rounds']} rounds, balance {shares}")
    if report["worse_than_chance"]:
        print(f"seem to be right less often than chance: {', '.join(report['worse_than_chance'])}; mind the labels")
    if not report["converged"]:
        print("it has not converged: its labels may still change")
    for split, one in report.get("against_gold", {}).items():
        if one["judged"]:
            accuracies = f"label model {one['label_model']:.4f}, majority vote {one['majority_vote']:.4f}"
            rest = f"most frequent label {one['most_frequent']:.4f}, of {one['judged']:,} of {one['gold']:,} documents"
            print(f"accuracy, {split}: {accuracies}, {rest}")


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.4f}"
