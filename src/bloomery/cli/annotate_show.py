"""`bloomery annotate show`: what was asked, who answered, what it cost. This module does not know the store's
tables."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators

from bloomery.cli.annotate_options import Annotators, find_question, opened_store
from bloomery.cli.options import Common, print_json, shown

if TYPE_CHECKING:
    from bloomery.corpus.annotation.cost import Cost
    from bloomery.corpus.annotation.question import Question
    from bloomery.corpus.annotation.store import Annotation, AnnotationStore


def show(
    question: Annotated[str, Parameter(help="A question: name, id or TOML file [default: all, in a line each].")] = "",
    *,
    item: Annotated[str, Parameter(help="Every answer to this document (its id), oldest first.")] = "",
    answers: Annotated[int, Parameter(help="Print so many answers.", validator=validators.Number(gte=0, lt=2**31))] = 0,
    by: Annotators = None,
    hour_price: Annotated[float | None, Parameter(help="What an hour of a person costs.")] = None,
    currency: Annotated[str, Parameter(help="Of the price.")] = "",
    common: Common | None = None,
) -> None:
    """List the questions, or one with its annotators and what their labels cost; or single answers."""
    common = common or Common()
    from bloomery.corpus.annotation.cost import costs

    with opened_store(common.workspace()) as store:
        if not question:
            return _list(store.questions(), common)
        asked = find_question(question, store)
        found = list(store.answers(asked, annotators=by or (), every=True))
        if item or answers:
            return _answers(store, [one for one in found if item in ("", one.item)][-answers or None :], common)
    spent = costs(found, hour_price=hour_price, currency=currency)
    if common.json:
        return print_json({"question": asked.to_dict(), "id": asked.id, "cost": [one.to_dict() for one in spent]})
    return _show(asked, spent)


def _list(rows: list[dict[str, Any]], common: Common) -> None:
    if common.json:
        return print_json(rows)
    if not rows:
        print("nothing was asked yet; bloomery annotate model QUESTION.toml asks")
    for row in rows:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["time"]))
        kind = row["question"]["kind"]
        print(f"{when}  {row['id']}  {row['name']}  {kind}: {row['answers']:,} answers of {row['annotators']}")
    return None


def _show(asked: Question, spent: Sequence[Cost]) -> None:
    print(f"{asked.name} ({asked.id}), {asked.kind}: {shown(asked.instruction)}")
    print(f"  an answer is {asked.expects()}")
    for line in cost_lines(spent):
        print(f"  {line}")


def cost_lines(spent: Sequence[Cost]) -> list[str]:
    """Two lines an annotator: what there is, and what a label took."""
    lines = []
    for one in spent:
        told = one.to_dict()["per_label"]
        tokens = _sum(told["prompt_tokens"], told["completion_tokens"])
        money = "unknown" if told["money"] is None else f"{told['money']:.6g} {one.currency}".strip()
        from bloomery.core.quantity import Quantity

        joules = Quantity.from_dict(told["energy_joules"]).text("J")
        seconds = "unknown" if told["seconds"] is None else f"{told['seconds']:.3g} s"
        lines.append(f"{shown(one.annotator)} ({one.kind}): {one.labels:,} labels of {one.asked:,} asked")
        lines.append(f"  a label: tokens {tokens}, time {seconds}, energy {joules}, money {money}")
    return lines


def _sum(one: float | None, other: float | None) -> str:
    return "unknown" if one is None or other is None else f"{one:.4g} + {other:.4g}"


def _answers(store: AnnotationStore, found: Sequence[Annotation], common: Common) -> None:
    documents = store.documents(one.item for one in found)
    for one in found:
        if common.json:
            told = {**vars(one), "energy_joules": one.energy_joules.to_dict()}
            print_json({**told, "text": documents[one.item].text})
            continue
        sure = max(one.probabilities.values()) if one.probabilities else None
        said = "no answer" if one.value is None else json.dumps(one.value, ensure_ascii=False)
        share = "" if sure is None else f" ({sure:.3f})"
        text = " ".join(documents[one.item].text.split())[:80]
        print(shown(f"{one.item}  {one.annotator}: {said[:80]}{share}  {text}"))
