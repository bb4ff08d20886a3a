"""`bloomery annotate show`: questions, costs, answers."""

from __future__ import annotations

import json
from pathlib import Path

from bloomery.core.quantity import Quantity
from bloomery.corpus.annotation.question import Question
from bloomery.corpus.annotation.store import FILE, Annotation, AnnotationStore
from bloomery.corpus.document import Document

DOCUMENT = Document.of("a text\x1b[31m", "s")
QUESTION = Question(name="q", kind="choice", instruction="Which?", labels=("a", "b"))


def filled(home: Path) -> tuple[str, str]:
    with AnnotationStore(home / FILE) as store:
        told = {
            "prompt_tokens": 30,
            "completion_tokens": 1,
            "seconds": 0.5,
            "energy_joules": Quantity.exact(4.0, "counter"),
        }
        chances = {"a": 0.8, "b": 0.2}
        made = Annotation(item=DOCUMENT.id, annotator="m", kind="model", value="a", probabilities=chances, **told)
        store.add(QUESTION, DOCUMENT, made)
    return ("--home", str(home))


def test_nothing_yet(call, tmp_path: Path):
    assert "nothing was asked yet" in call("annotate", "show", "--home", str(tmp_path)).out


def test_questions_costs_and_answers(call, tmp_path: Path):
    home = filled(tmp_path)
    assert "1 answers of 1" in call("annotate", "show", *home).out
    said = call("annotate", "show", "q", *home).out
    assert "1 labels of 1 asked" in said and "tokens 30 + 1, time 0.5 s, energy 4 J, counter, money unknown" in said
    answers = call("annotate", "show", "q", "--answers", "5", *home).out
    assert DOCUMENT.id in answers and '"a" (0.800)' in answers and "\x1b" not in answers
    told = json.loads(call("annotate", "show", "q", "--item", DOCUMENT.id, "--json", *home).out)
    assert told["text"] == DOCUMENT.text and told["probabilities"] == {"a": 0.8, "b": 0.2}
    assert json.loads(call("annotate", "show", "q", "--json", *home).out)["cost"][0]["per_label"]["money"] is None
