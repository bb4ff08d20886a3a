"""`bloomery annotate model`: a model labels a corpus. This module does not know prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bloomery.cli.annotate_options import (
    CorpusName,
    ModelOptions,
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
from bloomery.cli.options import Common, print_json, shown
from bloomery.core.errors import RequestError

if TYPE_CHECKING:
    from bloomery.corpus.annotation.cost import Cost
    from bloomery.corpus.annotation.prompted import Labelled
    from bloomery.corpus.annotation.question import Question


def model(
    question: QuestionName,
    corpus: CorpusName = "",
    *,
    split: Split = "train",
    sample: Sample = 0,
    order: Order = "random",
    seed: Seed = 0,
    temperature: Annotated[float, Parameter(help="0: the most probable answer.")] = 0.0,
    max_new_tokens: Annotated[int, Parameter(help="Of an answer.")] = 512,
    max_characters: Annotated[int, Parameter(help="Cut longer documents to their beginning [default: never].")] = 0,
    probabilities: Annotated[bool, Parameter(help="Ask for log-probabilities; some endpoints refuse them.")] = True,
    input_price: Annotated[float | None, Parameter(help="Money for a million tokens that the model reads.")] = None,
    output_price: Annotated[float | None, Parameter(help="Money for a million tokens that it writes.")] = None,
    currency: Annotated[str, Parameter(help="Of the prices.")] = "",
    which: ModelOptions | None = None,
    common: Common | None = None,
) -> None:
    """Ask a model of every document and keep its answers. Interrupted, the same command asks only for what is
    missing."""
    common, which = common or Common(), which or ModelOptions()
    from bloomery.corpus.annotation.cost import costs
    from bloomery.corpus.annotation.model_labels import model_labels
    from bloomery.corpus.annotation.prompted import PromptConfig

    config = PromptConfig(
        temperature=temperature,
        seed=seed,
        max_new_tokens=max_new_tokens,
        concurrency=which.concurrency,
        max_characters=max_characters,
        probabilities=probabilities,
        input_price=input_price,
        output_price=output_price,
        currency=currency,
    )
    workspace = common.workspace()
    with opened_store(workspace) as store:
        asked = find_question(question, store)
        source = find_corpus(workspace, corpus)
        before = by_item(store.answers(asked)) if order == "unsure" else {}
        documents = documents_of(source, split, sample=sample, seed=seed, order=order, answers=before)
        with which.opened(workspace) as chat:
            report = model_labels(store, asked, source, documents, chat, config=config, workspace=workspace)
            spent = costs(store.answers(asked, annotators=[chat.name], every=True))
    told = {"question": asked.id, "name": asked.name, **vars(report), "cost": [one.to_dict() for one in spent]}
    if common.json:
        print_json(told)
    else:
        _show(asked, report, spent)
    if report.failed and report.failed == report.asked:
        raise RequestError(
            f"nothing was answered; the last error: {report.last_error}", hint="the same command goes on"
        )


def _show(asked: Question, report: Labelled, spent: list[Cost]) -> None:
    print(f"{asked.name} ({asked.id}): {report.answered:,} answered, {report.known:,} known before,")
    print(f"  {report.unanswered:,} without an answer that counts, {report.failed:,} failed")
    if report.last_refused:
        print(f"  the last that does not count: {shown(' '.join(report.last_refused.split()))}")
    from bloomery.cli.annotate_show import cost_lines

    for line in cost_lines(spent):
        print(f"  {line}")
