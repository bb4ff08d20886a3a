"""`bloomery annotate apply`: the answers of the store as labels of a corpus. This module does not know how they
join."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from bloomery.cli.annotate_options import (
    Annotators,
    CorpusName,
    Field,
    GoldField,
    GoldSplits,
    Kinds,
    MinProbability,
    QuestionName,
    find_corpus,
    find_question,
    opened_store,
)
from bloomery.cli.options import Common, Fresh, show_artifact


def apply(
    question: QuestionName,
    corpus: CorpusName = "",
    *,
    by: Annotators = None,
    kind: Kinds = None,
    join: Annotated[
        Literal["vote", "confusion", "median", "last", ""],
        Parameter(help="How several answers become one [default: vote; last for texts]; confusion: Dawid-Skene."),
    ] = "",
    field: Field = "label",
    gold: GoldField = "",
    gold_split: GoldSplits = None,
    min_probability: MinProbability = 0.0,
    keep_unlabelled: Annotated[bool, Parameter(negative=(), help="Keep documents without an answer.")] = False,
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """A corpus with the answers to a question as labels, which `bloomery train` reads."""
    common = common or Common()
    from bloomery.corpus.annotation.consensus import consensus
    from bloomery.corpus.annotation.labelled import LabelledConfig, label_corpus

    settings = LabelledConfig(
        field=field,
        gold_field=gold,
        gold_splits=tuple(gold_split or ()),
        min_probability=min_probability,
        keep_unlabelled=keep_unlabelled,
    )
    workspace = common.workspace()
    with opened_store(workspace) as store:
        asked = find_question(question, store)
        answers = list(store.answers(asked, annotators=by or (), kinds=kind or ()))
    labels = consensus(asked, answers, how=join)
    how = {"question": asked.to_dict(), "annotators": sorted({one.annotator for one in answers}), "join": join}
    source = find_corpus(workspace, corpus)
    made = label_corpus(source, labels, config=settings, how=how, workspace=workspace, fresh=fresh)
    lines = []
    for split, counts in made.metrics["labels"].items():
        said = ", ".join(f"{label} {count:,}" for label, count in list(counts.items())[:12])
        lines.append(f"{split}: {made.metrics['documents'][split]:,} documents" + (f" ({said})" if said else ""))
    lines += [f"taken out, {reason}: {count:,}" for reason, count in made.metrics["dropped"].items()]
    for split, one in made.metrics.get("against_gold", {}).items():
        if one["judged"]:
            lines.append(f"right, {split}: {one['accuracy']:.4f} of {one['judged']:,} with a gold label")
    show_artifact(made, common, lines)
