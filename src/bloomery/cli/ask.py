"""`bloomery ask`: a question to an index, answered with citations. This module does not know how answers are made."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, validators

from bloomery.cli.annotate_options import ModelOptions
from bloomery.cli.index_search import Filter, IndexName, Mode, read_filters
from bloomery.cli.options import Common, print_json, shown

if TYPE_CHECKING:
    from bloomery.retrieve.answers import Answer, AnswerConfig, Answering

_MARKER = re.compile(r"[\[【]\s*(?:passage\s+)?\d", re.IGNORECASE)
Form = Literal["markers", "quotes", "spans", "extract"]
Rerank = Annotated[
    str,
    Parameter(
        help="A cross-encoder; model: the answering model says which chunks answer; likelihood: how probable it finds"
        " the question after each."
    ),
]
GateName = Annotated[
    str,
    Parameter(
        help="When the documents do not answer, by the search alone: auto, the gate that comes along; none; or the file"
        " of a fitted one."
    ),
]


def ask(
    index: IndexName,
    question: Annotated[str, Parameter(help="What to answer from its documents.")],
    *,
    form: Annotated[
        Form,
        Parameter(
            help="How the model cites: numbers of passages in its text; quotes beside its answer, held to a schema;"
            " not at all, and shared words are found; extract: sentences of the documents, no model."
        ),
    ] = "markers",
    k: Annotated[int, Parameter(name=["--k", "-k"], help="Chunks that are searched for.")] = 10,
    mode: Annotated[Mode, Parameter(help="Search by words, by meaning, or both.")] = "auto",
    filter_: Filter = None,
    rerank: Rerank = "",
    gate: GateName = "auto",
    budget: Annotated[
        int,
        Parameter(
            help="Tokens of passages that the model reads, where its context has room.",
            validator=validators.Number(gte=32),
        ),
    ] = 1500,
    order: Annotated[
        Literal["score", "document", "edges"], Parameter(help="Of passages; edges: the best at both ends.")
    ] = "score",
    max_new_tokens: Annotated[int, Parameter(help="Of the answer.")] = 512,
    strict: Annotated[bool, Parameter(negative=(), help="Leave out what the passages do not support.")] = False,
    allow_host: Annotated[
        list[str] | None, Parameter(negative=(), help="The answer may link to this host. May be repeated.")
    ] = None,
    which: ModelOptions | None = None,
    common: Common | None = None,
) -> None:
    """Answer a question from an index, with the document, range and words of every citation. Without --model or
    --endpoint the answer is made of the documents' own sentences."""
    common, which = common or Common(), which or ModelOptions()
    from bloomery.retrieve import SearchConfig
    from bloomery.retrieve.answers import AnswerConfig, PassageConfig

    config = AnswerConfig(
        form=form,
        k=k,
        passages=PassageConfig(budget_tokens=budget, order=order),
        max_new_tokens=max_new_tokens,
        strict=strict,
        allowed_hosts=tuple(allow_host or ()),
    )
    searched = {"rerank": rerank, "gate": gate, "search": SearchConfig(mode=mode)}
    _answer(index, question, config, which, common, read_filters(filter_), searched)


def _answer(
    index: str,
    question: str,
    config: AnswerConfig,
    which: ModelOptions,
    common: Common,
    filters: dict[str, Any],
    searched: dict[str, Any],
) -> None:
    from bloomery.retrieve.answers import opened_answering

    workspace = common.workspace()
    with ExitStack() as stack:
        asks = config.form != "extract" and (which.model or which.endpoint)
        chat = stack.enter_context(which.opened(workspace)) if asks else None
        opened = opened_answering(index, chat, config, workspace=workspace, **searched)
        answering = stack.enter_context(opened)
        if common.json:
            print_json(answering.answer(question, filters).to_dict())
            return
        answer = _streamed(answering, question, filters)
    _show(answer, common)


def _streamed(answering: Answering, question: str, filters: dict[str, Any]) -> Answer:
    """Shown as it comes once it cites something; before that it may be an answer that needs a warning first."""
    answer, held, cites = None, "", False
    for delta in answering.stream(question, filters):
        answer, held = delta.answer or answer, held + delta.text
        cites = cites or _MARKER.search(held) is not None
        if cites:
            print(shown(held), end="", flush=True)
            held = ""
    assert answer is not None
    warning = "! the model's answer cites nothing: not supported by the documents" if _cites_nothing(answer) else ""
    if warning and not cites:
        print(warning)
    print(shown(held))
    if warning and cites:  # a number of no passage, or beside words that it does not have
        print(warning)
    return answer


def _cites_nothing(answer: Answer) -> bool:
    return answer.found and not any(one.citations for one in answer.statements)


def _show(answer: Answer, common: Common) -> None:
    bare = _cites_nothing(answer)
    if bare and answer.passages:
        best = max(answer.passages, key=lambda one: one.score)
        places = " ".join(f"[{piece.start}:{piece.end}]" for piece in best.pieces)
        print(shown(f"\nnearest passage: {best.document_id} {places}"))
    if answer.found and not bare:
        print()
    for statement in () if bare else answer.statements:
        mark = " " if statement.supported else "!"
        print(shown(f"{mark} {' '.join(statement.text.split())}"))
        for one in statement.citations:
            quote = " ".join(one.quote.split())
            print(shown(f"    [{one.passage}] {one.document_id} [{one.start}:{one.end}] “{quote[:300]}”"))
        if statement.why:
            print(shown(f"    unsupported: {statement.why}"))
    if answer.note and not common.quiet:
        print(f"[{shown(answer.note)}]", file=sys.stderr)
    if not answer.found and answer.why and not common.quiet:
        whose = {
            "search": "by the search",
            "model": "says the model",
            "strict": "nothing that it said was supported",
            "form": "what it wrote is cut, or not of the form asked for",
        }
        print(f"[{whose[answer.why]}; {_passages(answer)}]", file=sys.stderr)
    elif not common.quiet:
        took = f"{answer.usage.prompt_tokens} + {answer.usage.completion_tokens} tokens, " if answer.said else ""
        print(f"[{_passages(answer)}, {took}{answer.seconds:.2f} s]", file=sys.stderr)


def _passages(answer: Answer) -> str:
    left_out = f", {answer.left_out} chunks left out" if answer.left_out else ""
    return f"{len(answer.passages)} passages{left_out}"
