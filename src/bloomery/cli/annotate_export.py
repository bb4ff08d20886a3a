"""`bloomery annotate export`: tasks for people. This module does not know their format."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.annotate_options import (
    CorpusName,
    Order,
    QuestionName,
    Sample,
    Seed,
    Split,
    by_item,
    documents_of,
    find_corpus,
    find_question,
    opened_store,
)
from bloomery.cli.options import Common


def export(
    question: QuestionName,
    corpus: CorpusName = "",
    *,
    out: Annotated[Path | None, Parameter(help="File to write [default: stdout].")] = None,
    interface: Annotated[
        bool, Parameter(negative=(), help="Print the labelling interface (XML) for the project instead.")
    ] = False,
    split: Split = "train",
    sample: Sample = 0,
    order: Order = "random",
    seed: Seed = 0,
    common: Common | None = None,
) -> None:
    """Tasks as Label Studio reads them (JSON), with what models and rules said as predictions."""
    common = common or Common()
    from bloomery.corpus.annotation import label_studio

    workspace = common.workspace()
    with opened_store(workspace) as store:
        asked = find_question(question, store)
        if interface:
            print(label_studio.interface(asked), end="")
            return
        answers = by_item(store.answers(asked))
        source = find_corpus(workspace, corpus)
        documents = documents_of(source, split, sample=sample, seed=seed, order=order, answers=answers)
    tasks = list(label_studio.tasks(asked, documents, answers))
    text = json.dumps(tasks, ensure_ascii=False, indent=1)
    if out is None:
        print(text)
        return
    out.write_text(text + "\n", encoding="utf-8", errors="replace")
    print(f"{len(tasks):,} tasks in {out}; the project's interface: --interface", file=sys.stderr)
