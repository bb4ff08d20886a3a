"""The annotation store: what is kept, that nothing is changed, and what counts."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from bloomery.core.errors import ConfigError, DataError
from bloomery.core.quantity import Quantity
from bloomery.corpus.annotation.question import Question
from bloomery.corpus.annotation.store import Annotation, AnnotationStore
from bloomery.corpus.document import Document

QUESTION = Question(name="spam", kind="choice", instruction="Spam?", labels=("ham", "spam"))
ONE, OTHER = Document.of("one text", "s"), Document.of("another \U0001f525", "s", {"row": 3})


def answer(document: Document, value, *, by: str = "anna", origin: str = "1", **more) -> tuple[Document, Annotation]:
    given = {"kind": "person", **more}
    return document, Annotation(item=document.id, annotator=by, value=value, origin=origin, **given)


@pytest.fixture
def store(tmp_path: Path):
    with AnnotationStore(tmp_path / "a.sqlite") as made:
        yield made


def test_an_answer_comes_back_as_it_was(store: AnnotationStore):
    joules = Quantity(low=1.0, central=2.0, high=3.0, method="estimated")
    document, kept = answer(
        OTHER,
        "spam",
        kind="model",
        probabilities={"ham": 0.25, "spam": 0.75},
        detail={"seed": 3},
        time=12.5,
        seconds=0.5,
        prompt_tokens=10,
        completion_tokens=1,
        money=0.001,
        currency="EUR",
        energy_joules=joules,
    )
    assert store.add(QUESTION, document, kept)
    assert list(store.answers(QUESTION)) == [kept]
    assert store.documents([OTHER.id, "nobody"]) == {OTHER.id: OTHER}


def test_the_same_answer_is_kept_once_and_a_later_one_counts(store: AnnotationStore):
    assert store.add_all(QUESTION, [answer(ONE, "ham"), answer(ONE, "ham"), answer(OTHER, "ham")]) == 2
    assert not store.add(QUESTION, *answer(ONE, "ham"))
    assert store.add(QUESTION, *answer(ONE, "spam", origin="2"))
    assert {one.item: one.value for one in store.answers(QUESTION)} == {ONE.id: "spam", OTHER.id: "ham"}
    assert len(list(store.answers(QUESTION, every=True))) == 3
    assert store.asked(QUESTION, "anna") == {(ONE.id, "1"), (ONE.id, "2"), (OTHER.id, "1")}


def test_answers_by_annotator_and_kind(store: AnnotationStore):
    store.add_all(
        QUESTION, [answer(ONE, "ham"), answer(ONE, "spam", by="bert"), answer(ONE, None, by="m", kind="model")]
    )
    assert [one.value for one in store.answers(QUESTION, annotators=["bert"])] == ["spam"]
    assert [one.value for one in store.answers(QUESTION, kinds=["model"])] == [None]


def test_nothing_is_changed_or_deleted(store: AnnotationStore):
    store.add(QUESTION, *answer(ONE, "ham"))
    with closing(sqlite3.connect(store.path)) as db:
        for table in ("questions", "items", "annotations"):
            for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET rowid = 9"):
                with pytest.raises(sqlite3.IntegrityError, match="never changed"):
                    db.execute(statement)


def test_what_is_no_answer_is_not_kept_and_neither_are_those_beside_it(store: AnnotationStore):
    with pytest.raises(DataError, match="no answer"):
        store.add_all(QUESTION, [answer(ONE, "ham"), answer(OTHER, "eggs")])
    assert not list(store.answers(QUESTION)) and not store.questions()


def test_questions_by_id_and_by_name_the_newest(store: AnnotationStore):
    newer = Question(name="spam", kind="choice", instruction="Is it spam?", labels=("ham", "spam"))
    store.add(QUESTION, *answer(ONE, "ham"))
    store.add(newer, *answer(ONE, None))
    assert store.question("spam") == newer and store.question(QUESTION.id) == QUESTION
    assert [(row["name"], row["answers"], row["annotators"]) for row in store.questions()] == [
        ("spam", 0, 1),
        ("spam", 1, 1),
    ]
    with pytest.raises(ConfigError, match="no question") as caught:
        store.question("spma")
    assert caught.value.hint == 'did you mean "spam"?'


def test_a_kind_of_annotator_that_there_is_not(store: AnnotationStore):
    with pytest.raises(ConfigError, match="no kind of annotator"):
        store.add(QUESTION, *answer(ONE, "ham", kind="persn"))


def test_only_the_owner_reads_it(store: AnnotationStore):
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_many_answers_come_in_order(store: AnnotationStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bloomery.corpus.annotation.store._PAGE", 100)
    documents = [Document.of(f"text {n}", "s") for n in range(250)]
    assert store.add_all(QUESTION, [answer(one, "ham") for one in documents]) == 250
    assert [one.item for one in store.answers(QUESTION)] == [one.id for one in documents]


def test_texts_that_no_database_takes_are_mended(store: AnnotationStore):
    document = Document("0" * 16, "half \ud800", "s")
    assert store.add(QUESTION, *answer(document, "ham", by="\ud800"))
    assert store.documents(["0" * 16])["0" * 16].text == "half \ufffd"
