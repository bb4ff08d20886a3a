"""`bloomery annotate agreement`: the numbers, in words and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from bloomery.corpus.annotation.question import read_question
from bloomery.corpus.annotation.store import FILE, Annotation, AnnotationStore
from bloomery.corpus.document import Document


def test_of_two_people(call, spam_home, tmp_path: Path):
    question = read_question(spam_home.rules)
    with AnnotationStore(tmp_path / FILE) as store:
        for number in range(40):
            document = Document.of(f"t{number}", "s")
            for who, every in (("anna", 3), ("bert", 4)):
                value = "spam" if number % every == 0 else "ham"
                store.add(question, document, Annotation(item=document.id, annotator=who, kind="person", value=value))
    found = call("annotate", "agreement", "spam", "--home", str(tmp_path))
    assert found.code == 0
    for part in ("Krippendorff's alpha, nominal", "Fleiss' kappa", "Cohen's kappa, anna and bert", "the same on"):
        assert part in found.out
    told = json.loads(call("annotate", "agreement", "spam", "--json", "--home", str(tmp_path)).out)
    assert told["cohen_kappa"][0]["low"] < told["cohen_kappa"][0]["value"] < told["cohen_kappa"][0]["high"]
    alone = call("annotate", "agreement", "spam", "--by", "anna", "--home", str(tmp_path))
    assert "not defined (nobody answered twice)" in alone.out
