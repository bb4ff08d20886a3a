"""`bloomery annotate import`: what people said. This module does not know its format."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.annotate_options import QuestionName, documents_of, find_corpus, find_question, opened_store
from bloomery.cli.options import Common, print_json
from bloomery.core.errors import DataError


def import_(
    question: QuestionName,
    file: Annotated[Path, Parameter(help="A project's export from Label Studio, as JSON.")],
    corpus: Annotated[str, Parameter(help="The corpus that the tasks came from, to find the documents by.")] = "",
    *,
    predictions: Annotated[bool, Parameter(negative=(), help="Take what models said there, too.")] = False,
    strict: Annotated[bool, Parameter(negative=(), help="Stop at the first annotation that is no answer.")] = False,
    common: Common | None = None,
) -> None:
    """Keep the annotations of Label Studio. The same file twice changes nothing."""
    common = common or Common()
    from bloomery.corpus.annotation.label_studio import read_export

    workspace = common.workspace()
    with opened_store(workspace) as store:
        asked = find_question(question, store)
        known = {}
        if corpus:
            known = {one.id: one for one in documents_of(find_corpus(workspace, corpus), "all")}
        known |= store.documents(one.item for one in store.answers(asked))
        found = read_export(file, asked, known, predictions=predictions)
        if strict and found.listed:
            raise DataError(found.listed[0], hint="leave --strict off to count such ones and go on")
        new = store.add_all(asked, found.answers)
    told = {"question": asked.id, "answers": len(found.answers), "new": new, "skipped": found.skipped}
    if common.json:
        print_json({**told, "first_skipped": found.listed})
        return
    print(f"{asked.name} ({asked.id}): {new:,} new answers of {len(found.answers):,}")
    for reason, count in found.skipped.items():
        print(f"  skipped, {reason.replace('_', ' ')}: {count:,}")
    if found.listed and not common.quiet:
        print(f"the first: {found.listed[0]}", file=sys.stderr)
